// mongo connects to a MongoDB deployment that it finds by DNS.
//
//	mongo 'mongodb+srv://mongo.pool.example.org/?tls=false'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func main() {
	log.SetFlags(0)
	opts := options.Client().ApplyURI(os.Args[1])
	if err := opts.Validate(); err != nil {
		log.Fatal(err)
	}
	if opts.ReplicaSet != nil {
		fmt.Println("replica set:", *opts.ReplicaSet) // from the TXT record
	}
	opts.SetServerMonitor(&event.ServerMonitor{
		TopologyDescriptionChanged: func(e *event.TopologyDescriptionChangedEvent) {
			fmt.Println("servers:", len(e.NewDescription.Servers), e.NewDescription.Kind)
		},
	})
	client, err := mongo.Connect(opts)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := client.Ping(ctx, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(opts.Hosts, "ping: ok")
	if err := client.Disconnect(ctx); err != nil {
		log.Fatal(err)
	}
}
