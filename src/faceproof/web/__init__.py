"""The web app and its JSON API (`faceproof serve`): doors to the same verbs as Python and the shell."""
