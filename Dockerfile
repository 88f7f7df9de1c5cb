# The web app and its API: docker build -t faceproof . && docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp faceproof
FROM python:3.12-slim-bookworm

# OpenCV's wheel needs the system's libGL and GLib.
RUN apt-get update \
 && apt-get install --no-install-recommends -y libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --no-create-home --uid 10001 faceproof

COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN pip install --no-cache-dir "/build[serve,video,provenance,heif]" \
 && rm -rf /build \
 && python -c "import cv2, av, starlette, uvicorn"

# One thread per worker process: more are slower where all cores have work.
ENV OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/api/v1/health', timeout=5)"]
# FACEPROOF_TOKEN in the environment makes requests carry a token.
ENTRYPOINT ["faceproof", "serve", "--host", "0.0.0.0"]
CMD ["--port", "8000"]
