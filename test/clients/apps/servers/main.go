// servers has servers for the tests of clients:
//
//	servers grpc ADDRESS   # the health service of gRPC
//	servers mongos ADDRESS # as much of a mongos as a client needs to connect
//	servers mongod ADDRESS # of the one member of the replica set rs0
package main

import (
	"fmt"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: servers grpc|mongos|mongod ADDRESS")
	}
	l, err := net.Listen("tcp", os.Args[2])
	if err == nil {
		err = serve(os.Args[1], l)
	}
	log.Fatal(err)
}

func serve(kind string, l net.Listener) error {
	switch kind {
	case "grpc":
		s := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		return s.Serve(l)
	case "mongos", "mongod":
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				if err := mongo(c, kind); err != nil {
					log.Print(err)
				}
			}()
		}
	}
	return fmt.Errorf("no server %s", kind)
}
