// Local-provisioner makes a volume on the node's disk for each claim of the storage class "local".
// It runs beside the control plane as an ordinary process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"
)

// Name is the provisioner's name in a StorageClass.
const Name = "dexorder.io/local"

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig to use")
	root := flag.String("root", "", "folder that holds one folder for each volume")
	qps := flag.Float64("qps", 200, "most requests to the API server a second")
	workers := flag.Int("workers", 16, "claims and volumes handled at the same time")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *root, float32(*qps), *workers); err != nil {
		fmt.Fprintln(os.Stderr, "local-provisioner:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, root string, qps float32, workers int) error {
	if kubeconfig == "" || !filepath.IsAbs(root) {
		return fmt.Errorf("-kubeconfig and an absolute -root are required")
	}
	if err := os.MkdirAll(root, 0o711); err != nil {
		return fmt.Errorf("make the volume folder: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = qps
	config.Burst = int(2 * qps)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make API client: %w", err)
	}
	controller.NewProvisionController(
		klog.FromContext(ctx), client, Name, &localVolumes{root: root},
		controller.LeaderElection(false),
		controller.AddFinalizer(true),
		controller.Threadiness(workers),
		// The library's own limit is 10 a second with 15 s after an error: too slow for tests that make many claims.
		controller.RateLimiter(workqueue.NewItemExponentialFailureRateLimiter(500*time.Millisecond, 30*time.Second)),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
	).Run(ctx)
	return nil
}
