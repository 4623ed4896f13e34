module github.com/rserpool/coredns-rserpool

go 1.26.0
