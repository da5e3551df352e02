# shellcheck shell=bash
# Container images: the pause image of every pod, and bringing archives to the node.

PAUSE_ARCHIVE=$IMAGES/pause.tar

# Builds the pause image once; a change of its sources builds it again.
build_pause_image() {
  local hash work
  hash=$(cat "$CLUSTER_SRC/pause/pause.c" "$CLUSTER_SRC/pause/Containerfile" | sha256sum | cut -d' ' -f1)
  [[ -f $PAUSE_ARCHIVE && -f $PAUSE_ARCHIVE.hash && $(<"$PAUSE_ARCHIVE.hash") == "$hash" ]] && return
  say "building the pause image"
  mkdir -p "$IMAGES"
  work=$(mktemp -d "$IMAGES/.pause.XXXXXX")
  gcc -Os -Wall -Wextra -Werror -static -s -o "$work/pause" "$CLUSTER_SRC/pause/pause.c"
  buildah bud --quiet --timestamp 0 -f "$CLUSTER_SRC/pause/Containerfile" -t "$PAUSE_IMAGE" "$work" >/dev/null
  buildah push --quiet "$PAUSE_IMAGE" "oci-archive:$work/pause.tar:$PAUSE_IMAGE"
  mv -f "$work/pause.tar" "$PAUSE_ARCHIVE"
  rm -r "$work"
  echo "$hash" >"$PAUSE_ARCHIVE.hash"
}

ctr_images() {
  CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 in_node "$BIN/ctr" --address "$CONTAINERD_SOCKET" --namespace k8s.io images "$@"
}

# Prints "NAME DIGEST" for each image of an OCI archive.
archive_images() {
  tar -xOf "$1" index.json |
    jq -er '.manifests[] | "\(.annotations["io.containerd.image.name"] // .annotations["org.opencontainers.image.ref.name"]) \(.digest)"'
}

# load_archive FILE [quiet]: brings an archive to the node, unless it has all its images with the same digests.
load_archive() {
  local file=$1 wanted present missing
  [[ -r $file ]] || die "no such image archive: $file"
  wanted=$(archive_images "$file") || die "$file is not an OCI archive: write it with 'buildah push IMAGE oci-archive:FILE:NAME'"
  present=$(ctr_images ls | awk 'NR > 1 { print $1, $3 }')
  missing=$(grep -vxFf <(printf '%s\n' "$present") <<<"$wanted" || true)
  if [[ -z $missing ]]; then
    [[ ${2:-} == quiet ]] || say "already on the node: ${wanted%% *}"
    return
  fi
  ctr_images import "$file" >/dev/null
  say "loaded ${wanted%% *}"
}
