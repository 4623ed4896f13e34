// mongo connects to a MongoDB deployment that it finds by DNS.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func main() {
	log.SetFlags(0)
	// mongodb+srv switches TLS on if the URL does not say otherwise.
	opts := options.Client().ApplyURI("mongodb+srv://mongo.pool.example.org/?tls=false")
	if err := opts.Validate(); err != nil {
		log.Fatal(err)
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
