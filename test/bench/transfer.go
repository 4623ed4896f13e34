package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// transferPoolSize is how many elements a pool of a transferred zone has.
const transferPoolSize = 100

// transfer compares the transfer of a zone with that of the same records by the plugin file.
func (b *bench) transfer() error {
	var c cleanup
	defer c.run()
	ours := c.process(b.startCoreDNS(registrarBlock("")+"\ntransfer {\nto *\n}", nil))
	if c.err != nil {
		return c.err
	}
	h := c.host(newHost(ours))
	if c.err != nil {
		return c.err
	}
	each := min(transferPoolSize, b.transferElements)
	if err := h.fill(b.transferElements/each, each); err != nil {
		return err
	}
	zone, records, err := transferredZone(ours)
	if err != nil {
		return err
	}
	file := c.process(b.startCoreDNS("file \"DIR/zone\"\ntransfer {\nto *\n}", map[string]string{"zone": zone}))
	if c.err != nil {
		return c.err
	}

	var ourTime, fileTime, ourCPU, fileCPU []float64
	for round := range b.transferRounds + 1 {
		for _, s := range []struct {
			server    *process
			took, cpu *[]float64
		}{{ours, &ourTime, &ourCPU}, {file, &fileTime, &fileCPU}} {
			before, begin := s.server.cpu(), time.Now()
			if err := receiveZone(s.server, records); err != nil {
				return s.server.explain(err)
			}
			if round > 0 { // the first one does not count
				*s.took = append(*s.took, time.Since(begin).Seconds()*1e3)
				*s.cpu = append(*s.cpu, (s.server.cpu()-before).Seconds()*1e3)
			}
		}
	}
	what := fmt.Sprintf("AXFR of %d elements, %d records, ms", b.transferElements, records)
	b.table.add(row{
		name: what + ", beside file", ours: number(median(ourTime)), neighbour: number(median(fileTime)),
		ratio: medianRatio(ourTime, fileTime), most: 1, target: "<= 1.00 x",
	})
	b.table.add(row{
		name: what + " of CPU, beside file", ours: number(median(ourCPU)), neighbour: number(median(fileCPU)),
		ratio: medianRatio(ourCPU, fileCPU),
	})
	return nil
}

// transferredZone returns a server's zone as a zone file, and the number of records in its
// transfer.
func transferredZone(p *process) (zone string, records int, err error) {
	t := dns.Transfer{DialTimeout: time.Second, ReadTimeout: time.Minute}
	envelopes, err := t.In(new(dns.Msg).SetAxfr("pool.example.org."), p.addr)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	var errs []error
	for e := range envelopes {
		errs = append(errs, e.Error)
		for _, rr := range e.RR {
			if records++; rr.Header().Rrtype != dns.TypeSOA || records == 1 {
				fmt.Fprintln(&b, rr)
			}
		}
	}
	return b.String(), records, errors.Join(errs...)
}

// receiveZone receives a zone transfer of so many records. It reads no more than their number, so
// that it takes little of the processors.
func receiveZone(p *process, records int) error {
	c, err := dns.Dial("tcp", p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.WriteMsg(new(dns.Msg).SetAxfr("pool.example.org.")); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReaderSize(c.Conn, 1<<20)
	for got := 0; got < records; {
		head, err := r.Peek(14) // length and header
		if err != nil {
			return fmt.Errorf("after %d of %d records: %w", got, records, err)
		}
		got += int(binary.BigEndian.Uint16(head[8:]))
		if rcode := head[5] & 0xf; rcode != 0 {
			return fmt.Errorf("the transfer has rcode %d", rcode)
		}
		if _, err := r.Discard(2 + int(binary.BigEndian.Uint16(head))); err != nil {
			return err
		}
	}
	return nil
}
