# shellcheck shell=bash
# Names, addresses and small functions that every command of the cluster shares.

# shellcheck disable=SC2034 # read by the files that source this one
{
CLUSTER_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(cd "$CLUSTER_SRC/../.." && pwd)
LOCAL=$REPO/.local
BIN=$LOCAL/bin
IMAGES=$LOCAL/images
STATE=$LOCAL/cluster
PKI=$STATE/pki
CONF=$STATE/config
LOGS=$STATE/logs
VOLUMES=$STATE/volumes
ADMIN_KUBECONFIG=$LOCAL/kubeconfig

# One cluster fits on a machine: these names are fixed, and the record of who owns it is in RUN.
RUN=/run/dexorder-cluster
LOCK=/run/dexorder-cluster.lock
PIDS=$RUN/pids
CONTAINERD_SOCKET=$RUN/containerd.sock
NETNS=dexorder-node
HOST_LINK=dexorder0
CGROUP=dexorder
NODE=node-0

# All addresses are inside 10.210.0.0/16.
HOST_IP=10.210.0.1
NODE_IP=10.210.0.2
NODE_PREFIX=24
POD_RANGE=10.210.64.0/18
NODE_POD_RANGE=10.210.64.0/22
SERVICE_RANGE=10.210.128.0/17
API_SERVICE_IP=10.210.128.1
DNS_IP=10.210.128.10
API_URL=https://$NODE_IP:6443
DOMAIN=cluster.local
NAMESPACE=dexorder
PAUSE_IMAGE=localhost/dexorder/pause:1
}

# Tools that `install` got for this checkout alone, or for this user.
PATH=$LOCAL/toolchain/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=overlay

say() { printf '%s\n' "cluster: $*"; }

die() {
  printf '%s\n' "cluster: error: $*" >&2
  exit 1
}

# wait_until SECONDS WHAT COMMAND...: polls until the command succeeds.
wait_until() {
  local limit=$1 what=$2 end
  shift 2
  end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      die "$what did not happen within $limit s; see the logs in $LOGS"
    fi
    sleep 0.1
  done
}

need_root() {
  ((EUID == 0)) || die "this needs root: it makes a network namespace, mounts and cgroups"
}

# Only one command at a time changes the cluster. Started processes close descriptor 9.
take_lock() {
  exec 9>"$LOCK"
  flock -n 9 && return
  say "waiting for another cluster command to end"
  flock -w 900 9 || die "another cluster command still holds $LOCK"
}

kctl() { "$BIN/kubectl" --kubeconfig "$ADMIN_KUBECONFIG" "$@"; }

in_node() { nsenter --net="/run/netns/$NETNS" -- "$@"; }
