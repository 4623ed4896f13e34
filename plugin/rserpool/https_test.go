package rserpool

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// httpsClient is an HTTP client that follows RFC 9460.
type httpsClient struct {
	resolver string
	roots    *x509.CertPool
}

// endpoint is where a service can be reached, and with which protocols.
type endpoint struct {
	addr netip.AddrPort
	alpn []string
}

// get requests a URL, and returns the body and the protocol.
func (c *httpsClient) get(address string) (body, proto string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	endpoints, err := c.endpoints(u.Hostname(), cmp.Or(u.Port(), "443"))
	if err != nil {
		return "", "", err
	}
	failed := errors.New("no endpoint")
	for _, e := range endpoints {
		if body, proto, err = c.getFrom(u, e); err == nil {
			return body, proto, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", "", failed
}

// endpoints looks up the HTTPS records, and the addresses of their targets if there are no
// hints.
func (c *httpsClient) endpoints(host, port string) (all []endpoint, err error) {
	name := dns.Fqdn(host)
	if port != "443" {
		name = "_" + port + "._https." + name
	}
	m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeHTTPS), c.resolver)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(m.Answer, func(a, b dns.RR) int { return cmp.Compare(a.(*dns.HTTPS).Priority, b.(*dns.HTTPS).Priority) })
	for _, rr := range m.Answer {
		e := endpoint{alpn: []string{"http/1.1"}}
		at, err := netip.ParseAddrPort("127.0.0.1:" + port)
		if err != nil {
			return nil, err
		}
		e.addr = netip.AddrPortFrom(netip.Addr{}, at.Port())
		for _, v := range rr.(*dns.HTTPS).Value {
			switch v := v.(type) {
			case *dns.SVCBAlpn:
				e.alpn = append(v.Alpn, e.alpn...)
			case *dns.SVCBPort:
				e.addr = netip.AddrPortFrom(e.addr.Addr(), v.Port)
			}
		}
		addrs, err := dns.Exchange(new(dns.Msg).SetQuestion(rr.(*dns.HTTPS).Target, dns.TypeA), c.resolver)
		if err != nil || len(addrs.Answer) == 0 {
			return nil, fmt.Errorf("target of %v: %w, %v", rr, err, addrs)
		}
		ip, _ := netip.AddrFromSlice(addrs.Answer[0].(*dns.A).A.To4())
		e.addr = netip.AddrPortFrom(ip, e.addr.Port())
		all = append(all, e)
	}
	return all, nil
}

// getFrom requests a URL from an endpoint. The certificate must be for the name in the URL.
func (c *httpsClient) getFrom(u *url.URL, e endpoint) (body, proto string, err error) {
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: c.roots, ServerName: u.Hostname(), NextProtos: e.alpn},
		ForceAttemptHTTP2: slices.Contains(e.alpn, "h2"),
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, e.addr.String())
		},
	}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(u.String())
	if err != nil {
		return "", "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), r.Proto, err
}

// webServer is an HTTPS server on a loopback port that answers with its number.
func webServer(t *testing.T, cert tls.Certificate, number int) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, number, " ", r.Host) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// certificate makes a certificate for a name, and a pool with it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TestHTTPSClient has a client of RFC 9460 request URLs with the pool's name. It learns the
// ports of the elements, is spread by the policy, and goes on to the next record if an
// element does not answer.
func TestHTTPSClient(t *testing.T) {
	fakes := withFakes(t)
	s := startServer(t, "pool.example.org:0 {\n bind 127.0.0.1\n rserpool {\n https alpn=h2\n addresses 2\n }\n}")
	cert, roots := certificate(t, "web.pool.example.org")
	var servers []*httptest.Server
	for _, f := range fakes {
		for id := 1; id <= 3; id++ {
			servers = append(servers, webServer(t, cert, id))
			at := netip.MustParseAddrPort(servers[id-1].Listener.Addr().String())
			put(t, f.space, "web", element(rsp.PEID(id), at.Port(), at.Addr().String()))
		}
	}
	c := &httpsClient{resolver: s.addr(), roots: roots}
	// Each lookup has two elements, and the first one answers.
	for i, u := range []string{"https://web.pool.example.org/", "https://web.pool.example.org:8443/", "https://web.pool.example.org/x"} {
		want := fmt.Sprint(i+1, " ", strings.Split(u, "/")[2])
		if body, proto, err := c.get(u); body != want || proto != "HTTP/2.0" || err != nil {
			t.Errorf("%s: got %q by %s, %v; want %q by HTTP/2.0", u, body, proto, err, want)
		}
	}
	servers[0].Close() // of a lookup with 1 and 2, 2 answers
	for i := range 3 {
		body, _, err := c.get("https://web.pool.example.org/")
		if want := fmt.Sprint([]int{2, 2, 3}[i], " web.pool.example.org"); body != want || err != nil {
			t.Errorf("without server 1: got %q, %v; want %q", body, err, want)
		}
	}
}
