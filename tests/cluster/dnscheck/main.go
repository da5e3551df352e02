// Dnscheck asks one DNS server for the addresses of a name and ends with 0 when it answers with at least one.
// The cluster uses it to know that the cluster's own DNS works; a bare Debian has no such tool.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: dnscheck SERVER:PORT NAME")
		os.Exit(2)
	}
	server, name := os.Args[1], os.Args[2]
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		fmt.Fprintf(os.Stderr, "dnscheck: look up %s at %s: %v\n", name, server, err)
		os.Exit(1)
	}
	for _, address := range addresses {
		fmt.Println(address)
	}
}
