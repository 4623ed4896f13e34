package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The messages of MongoDB's wire protocol that a client needs.
const (
	opReply = 1
	opQuery = 2004 // with which a client says hello first
	opMsg   = 2013
)

// mongo answers what a client asks to find out what a server is.
func mongo(c net.Conn, kind string) error {
	is := bson.D{{Key: "msg", Value: "isdbgrid"}} // a mongos
	if kind == "mongod" {
		me := c.LocalAddr().String()
		is = bson.D{{Key: "setName", Value: "rs0"}, {Key: "hosts", Value: bson.A{me}}, {Key: "me", Value: me}}
	}
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(c, head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size, id := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
		if size < 16 || size > 1<<20 {
			return fmt.Errorf("a message of %d bytes", size)
		}
		if _, err := io.CopyN(io.Discard, c, int64(size)-16); err != nil {
			return err
		}
		b, err := answer(binary.LittleEndian.Uint32(head[12:]), id, is)
		if err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// answer is the same for every command: the server is well.
func answer(op, id uint32, is bson.D) ([]byte, error) {
	doc, err := bson.Marshal(append(bson.D{
		{Key: "ok", Value: 1}, {Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true},
		{Key: "helloOk", Value: true},
		{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 25},
		{Key: "maxBsonObjectSize", Value: 1 << 24}, {Key: "maxMessageSizeBytes", Value: 48000000},
		{Key: "maxWriteBatchSize", Value: 100000}, {Key: "localTime", Value: time.Now()},
	}, is...))
	if err != nil {
		return nil, err
	}
	var body []byte
	switch op {
	case opQuery: // flags, cursor, start, number of documents
		op, body = opReply, binary.LittleEndian.AppendUint32(make([]byte, 16), 1)
	case opMsg: // flags, kind of the section
		body = make([]byte, 5)
	default:
		return nil, fmt.Errorf("unknown message %d", op)
	}
	body = append(body, doc...)
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, id)
	b = binary.LittleEndian.AppendUint32(b, op)
	return append(b, body...), nil
}
