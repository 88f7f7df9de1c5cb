"""Data sets as others publish them -> one manifest to train and evaluate on.

tree: what lies in a folder or below an s3 prefix, and nothing outside of it.
rows: what a layout says about one picture; what was wrong.
folders: layouts that folder names tell: 140k, CIPLAB, DF40, DiFF, the nine generators, class folders.
lists: layouts that a JSON or CSV tells: FFHQ, FDF, Darwin, COCO, manifests.
tabular: Hugging Face datasets and the Parquet files of one.
table: all of them, and which one a folder looks like.
examining: every picture read once, its hashes and what its file says, kept in a journal.
joining: labels, groups of what is alike, splits that no group straddles.
run: the whole of it. results, writing: what comes out. probes: what files alone tell. sharing: into a bucket.
"""
