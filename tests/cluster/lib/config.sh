# shellcheck shell=bash
# Fills in the settings of the cluster's parts.

render() {
  local name text
  text=$(<"$1")
  for name in STATE RUN PKI CONF LOGS CONTAINERD_SOCKET PAUSE_IMAGE NODE NODE_IP POD_RANGE NODE_POD_RANGE DNS_IP DOMAIN CGROUP NAMESPACE; do
    text=${text//@$name@/"${!name}"}
  done
  printf '%s\n' "$text"
}

# A file that would not change is left alone.
render_config() {
  local file target new
  mkdir -p "$CONF/cni" "$VOLUMES"
  for file in "$CLUSTER_SRC"/config/*; do
    target=$CONF/${file##*/}
    [[ $file == *.conflist ]] && target=$CONF/cni/${file##*/}
    new=$(render "$file")
    [[ -f $target && $(<"$target") == "$new" ]] || printf '%s\n' "$new" >"$target"
  done
}
