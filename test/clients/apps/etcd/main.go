// etcd finds the members of an etcd cluster by DNS, and writes and reads a key.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	log.SetFlags(0)
	found, err := srv.GetClient("etcd-client", "etcd.pool.example.org", "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Endpoints)
	client, err := clientv3.New(clientv3.Config{Endpoints: found.Endpoints})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "greeting", "hello"); err != nil {
		log.Fatal(err)
	}
	got, err := client.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s=%s\n", got.Kvs[0].Key, got.Kvs[0].Value)
}
