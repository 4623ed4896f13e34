// grpc calls the servers of a pool in turn, until N have answered, and prints which.
//
//	grpc dns:///grpc.pool.example.org:50051 N  # addresses by A and AAAA, one port
//	grpc srv:///_grpc._tcp.grpc.pool.example.org N
package main

import (
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

func main() {
	log.SetFlags(0)
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answered := map[string]bool{}
	for len(answered) < n {
		var p peer.Peer
		_, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{}, grpc.Peer(&p), grpc.WaitForReady(true))
		if err != nil {
			log.Fatal(err)
		}
		answered[p.Addr.String()] = true
	}
	fmt.Println(slices.Sorted(maps.Keys(answered)))
}
