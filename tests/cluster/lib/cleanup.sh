# shellcheck shell=bash
# Ends a cluster, whoever started it and in whatever state it was left: its processes, mounts, groups and network.

COMPONENTS=(kube-router kubelet containerd local-provisioner coredns kube-proxy kube-scheduler kube-controller-manager kube-apiserver etcd)

# Kernel settings that the kubelet changes.
KERNEL_SETTINGS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
# Folders that the kubelet, containerd and the CNI plugins make whatever their settings are.
FIXED_FOLDERS=(/var/lib/kubelet /var/log/containers /run/containerd /var/lib/cni /etc/containerd /opt/cni /opt/containerd)

# Writes down what the machine was like, once, before the cluster changes it.
remember_machine() {
  local folder
  [[ -f $RUN/kernel-settings ]] && return
  for folder in "${FIXED_FOLDERS[@]}"; do
    [[ -e $folder ]] || echo "$folder"
  done >"$RUN/new-folders"
  sysctl "${KERNEL_SETTINGS[@]}" >"$RUN/kernel-settings"
}

restore_machine() {
  local folder
  [[ -f $RUN/kernel-settings ]] || return 0
  sysctl -qp "$RUN/kernel-settings" >/dev/null || true
  while read -r folder; do rm -rf --one-file-system "$folder"; done <"$RUN/new-folders"
}

# Processes that no record names: shims and containers, or the rest of a cluster whose records are gone.
# All of them are in the node's network namespace or in its control group.
stray_pids() {
  {
    if [[ -e /run/netns/$NETNS ]]; then ip netns pids "$NETNS" 2>/dev/null; fi
    cgroup_pids
  } | sort -un
}

no_strays() {
  local pid alive=0
  for pid in $(stray_pids); do
    # A zombie stays in the group until its parent looks; it holds nothing.
    start_time "$pid" >/dev/null || continue
    kill -KILL "$pid" 2>/dev/null || true
    alive=1
  done
  ((alive == 0))
}

# Mounts below the cluster's folders, those of any checkout included, the deepest first.
cluster_mounts() {
  awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($RUN/|/run/containerd/|.*/\.local/cluster/)" | sort -ru
}

no_mounts() {
  local mount
  while read -r mount; do
    umount "$(printf '%b' "$mount")" 2>/dev/null || true
  done < <(cluster_mounts)
  [[ -z $(cluster_mounts) ]]
}

is_left_over() {
  [[ -d $RUN || -e /run/netns/$NETNS || -n $(cluster_mounts) ]] || ip link show "$HOST_LINK" >/dev/null 2>&1
}

# Everything but the state folders on disk.
end_cluster() {
  local name
  (use_second_node && end_second_node)
  # The kubelet first, or it would start again what ends; etcd last, so that the others can write.
  for name in "${COMPONENTS[@]}"; do
    if is_running "$name"; then say "stopping $name"; fi
    stop "$name" 20
  done
  wait_until 60 "the end of the node's processes" no_strays
  wait_until 30 "unmounting the pods' volumes" no_mounts
  wait_until 30 "removing the control groups" cgroups_are_deleted
  delete_network
  restore_machine
  rm -rf --one-file-system "$RUN"
}

owner() { cat "$RUN/owner" 2>/dev/null || true; }

# Makes this checkout the owner, after ending what another one left or still runs.
take_ownership() {
  local owner
  owner=$(owner)
  if [[ $owner != "$STATE" ]] && is_left_over; then
    say "ending the cluster of ${owner:-an earlier run}"
    end_cluster
  fi
  mkdir -p "$RUN" "$PIDS"
  echo "$STATE" >"$RUN/owner"
}

# After a restart of the machine, files that describe running things are wrong.
forget_earlier_boot() {
  netns_exists && [[ $(cat "$RUN/boot" 2>/dev/null) == "$(boot_id)" ]] && return
  if [[ -d $RUN/containerd || -d $RUN/cni ]]; then
    say "beginning anew after an earlier run: its node is gone"
    (use_second_node && end_second_node)
    # The records of processes are void, but strays may live if only the namespace's name was lost.
    wait_until 60 "the end of the node's processes" no_strays
    wait_until 30 "unmounting the pods' volumes" no_mounts
    wait_until 30 "removing the control groups" cgroups_are_deleted
    rm -rf --one-file-system "$RUN/containerd" "$RUN/cni"
  fi
  boot_id >"$RUN/boot"
}
