// The folders behind the volumes: made for a claim, removed with its volume.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"
)

// sharedParameter of a storage class makes its volumes usable on every node, as a network file system is. All nodes
// of the local cluster see the same folders.
const sharedParameter = "shared"

// localVolumes keeps each volume in a folder of its own under root, named after the volume.
type localVolumes struct {
	root string
}

var _ controller.BlockProvisioner = &localVolumes{}

// Provision makes the folder and describes it as a volume bound to the node that the scheduler chose.
func (l *localVolumes) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished,
			errors.New("a claim of a local volume can't have a selector: remove spec.selector")
	}
	if options.SelectedNode == nil {
		return nil, controller.ProvisioningFinished,
			errors.New("no node was chosen: the storage class must have volumeBindingMode WaitForFirstConsumer")
	}
	for _, mode := range claim.Spec.AccessModes {
		if mode != v1.ReadWriteOnce && mode != v1.ReadWriteOncePod {
			return nil, controller.ProvisioningFinished,
				fmt.Errorf("a local volume can't have access mode %s: use ReadWriteOnce or ReadWriteOncePod", mode)
		}
	}
	// The kubelet gives the folder to the pod's fsGroup; until then it is root's, like a new disk.
	path := filepath.Join(l.root, options.PVName)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("make folder of volume %s: %w", options.PVName, err)
	}
	filesystem := v1.PersistentVolumeFilesystem
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			VolumeMode:                    &filesystem,
			Capacity: v1.ResourceList{
				v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage],
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				Local: &v1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{
				NodeSelectorTerms: []v1.NodeSelectorTerm{{
					MatchExpressions: []v1.NodeSelectorRequirement{nodes(options)},
				}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// nodes says where a volume can be used: on the node that it was made for, or anywhere.
func nodes(options controller.ProvisionOptions) v1.NodeSelectorRequirement {
	if options.StorageClass.Parameters[sharedParameter] == "true" {
		return v1.NodeSelectorRequirement{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpExists}
	}
	return v1.NodeSelectorRequirement{
		Key:      v1.LabelHostname,
		Operator: v1.NodeSelectorOpIn,
		Values:   []string{options.SelectedNode.Labels[v1.LabelHostname]},
	}
}

// Delete removes the folder of a volume and all that is in it.
func (l *localVolumes) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.Local == nil {
		return &controller.IgnoredError{Reason: "volume " + volume.Name + " is not a local volume"}
	}
	path := filepath.Clean(volume.Spec.Local.Path)
	if filepath.Dir(path) != filepath.Clean(l.root) || strings.HasPrefix(filepath.Base(path), ".") {
		return fmt.Errorf("volume %s has path %s, which is not a folder of %s", volume.Name, path, l.root)
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove folder of volume %s: %w", volume.Name, err)
	}
	return nil
}

// SupportsBlock is false: a folder can't be a block device.
func (l *localVolumes) SupportsBlock(context.Context) bool { return false }
