//go:build allplugins

// The stock plugins of CoreDNS that bring the SDKs of AWS, Azure, Google Cloud,
// Kubernetes, etcd, Nomad and Datadog: two thirds of the build.

package main

import (
	_ "github.com/coredns/coredns/plugin/azure"
	_ "github.com/coredns/coredns/plugin/clouddns"
	_ "github.com/coredns/coredns/plugin/etcd"
	_ "github.com/coredns/coredns/plugin/k8s_external"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/nomad"
	_ "github.com/coredns/coredns/plugin/route53"
	_ "github.com/coredns/coredns/plugin/trace"
)
