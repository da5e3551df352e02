# shellcheck shell=bash
# Builds the programs of the cluster from the Go modules that pin their versions.
# A module is built again only when its files or its flags changed.

# What the local cluster needs. `build` also takes "kind", and "kubectl", which is a part of kubernetes.
MODULES=(kubernetes containerd-etcd helm coredns provisioner dnscheck)

module_dir() {
  case $1 in
    provisioner | dnscheck) echo "$CLUSTER_SRC/$1" ;;
    kubectl) echo "$CLUSTER_SRC/versions/kubernetes" ;;
    *) echo "$CLUSTER_SRC/versions/$1" ;;
  esac
}

# The version that a module's go.mod pins for a path.
pinned() { awk -v path="$2" '$1 == path && $2 != "=>" { print $2; exit } $1 == "require" && $2 == path { print $3; exit }' "$(module_dir "$1")/go.mod"; }

module_ldflags() {
  local version major minor pkg
  case $1 in
    kubernetes | kubectl)
      pkg=k8s.io/component-base/version
      version=$(pinned kubernetes k8s.io/kubernetes)
      IFS=. read -r major minor _ <<<"${version#v}"
      echo "-s -w -X $pkg.gitVersion=$version -X $pkg.gitMajor=$major -X $pkg.gitMinor=$minor -X $pkg.gitTreeState=clean"
      ;;
    containerd-etcd)
      echo "-s -w -X github.com/containerd/containerd/v2/version.Version=$(pinned containerd-etcd github.com/containerd/containerd/v2)"
      ;;
    helm) echo "-s -w -X helm.sh/helm/v4/internal/version.version=$(pinned helm helm.sh/helm/v4)" ;;
    *) echo "-s -w" ;;
  esac
}

# What a module's programs are built from: changes here, and nothing else, start a build.
module_hash() {
  local dir
  dir=$(module_dir "$1")
  {
    module_ldflags "$1"
    find "$dir" -maxdepth 1 -type f \( -name 'go.*' -o -name '*.go' \) -print0 | sort -z | xargs -0 cat
  } | sha256sum | cut -d' ' -f1
}

module_programs() {
  case $1 in
    kubernetes) echo kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl ;;
    containerd-etcd) echo containerd containerd-shim-runc-v2 ctr etcd ;;
    provisioner) echo local-provisioner ;;
    *) echo "$1" ;;
  esac
}

module_is_built() {
  local program
  [[ -f $BIN/.$1.hash && $(<"$BIN/.$1.hash") == "$(module_hash "$1")" ]] || return 1
  for program in $(module_programs "$1"); do
    [[ -x $BIN/$program ]] || return 1
  done
}

# Builds into a folder beside the old programs and moves them over, so that a running program is never half written.
build_module() {
  local module=$1 dir out
  local -a packages=(.)
  dir=$(module_dir "$module")
  module_is_built "$module" && return
  say "building $module (minutes the first time)"
  case $module in
    provisioner | dnscheck) ;;
    kubectl) packages=(k8s.io/kubernetes/cmd/kubectl) ;;
    *) mapfile -t packages < <(cd "$dir" && go mod edit -json | jq -r '.Tool[].Path') ;;
  esac
  mkdir -p "$BIN"
  out=$(mktemp -d "$BIN/.build.XXXXXX")
  (cd "$dir" && CGO_ENABLED=0 GOFLAGS='-mod=readonly -buildvcs=false' \
    go build -trimpath -ldflags "$(module_ldflags "$module")" -o "$out/" "${packages[@]}")
  # Two modules name their program otherwise.
  if [[ -e $out/server ]]; then mv "$out/server" "$out/etcd"; fi
  if [[ -e $out/provisioner ]]; then mv "$out/provisioner" "$out/local-provisioner"; fi
  mv -f "$out"/* "$BIN/"
  rmdir "$out"
  module_hash "$module" >"$BIN/.$module.hash"
}

build_binaries() {
  local module
  for module in "${MODULES[@]}"; do build_module "$module"; done
}
