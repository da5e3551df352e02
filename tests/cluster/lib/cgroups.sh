# shellcheck shell=bash
# The control group above all pods of the node. Works with version 1 (one tree for each controller) and version 2.

cgroup_trees() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u; }

make_cgroups() {
  local tree file
  while read -r tree; do
    [[ -d $tree/$CGROUP ]] && continue
    if [[ -f $tree/cgroup.subtree_control && $tree == /sys/fs/cgroup ]]; then
      # Version 2: children get only the controllers that the parent hands down.
      sed 's/[a-z_]*/+&/g' "$tree/cgroup.controllers" >"$tree/cgroup.subtree_control" || true
    fi
    mkdir "$tree/$CGROUP"
    # Version 1: a new cpuset is empty, and nothing can run in it.
    for file in cpuset.cpus cpuset.mems; do
      if [[ -f $tree/$file ]]; then cat "$tree/$file" >"$tree/$CGROUP/$file"; fi
    done
  done < <(cgroup_trees)
}

# The processes of all pods.
cgroup_pids() {
  local tree
  while read -r tree; do
    if [[ -d $tree/$CGROUP ]]; then find "$tree/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null; fi
  done < <(cgroup_trees) | sort -un
}

cgroups_are_deleted() {
  local tree left=0
  while read -r tree; do
    [[ -d $tree/$CGROUP ]] || continue
    find "$tree/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ ! -d $tree/$CGROUP ]] || left=1
  done < <(cgroup_trees)
  ((left == 0))
}
