package serve

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
)

// file is a file of a package.
type file struct {
	name, text string
	mode       int64
	typ        byte
	link       string
}

// pack makes a package.
func pack(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		if f.typ == 0 {
			f.typ = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: f.mode, Typeflag: f.typ, Linkname: f.link}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func script(text string) file { return file{name: "ssrun", text: "#!/bin/sh\n" + text, mode: 0o755} }

func scriptingConfig(t *testing.T) ScriptingConfig {
	return ScriptingConfig{
		Name: "here", Dir: t.TempDir(), MaxJobs: 1, MaxPackage: 1 << 20, KeepAlive: 20 * time.Second,
		Run: Sandbox{Time: 20 * time.Second, Memory: 1 << 30, FileSize: 1 << 20},
		Log: t.Logf,
	}
}

func (l *link) saysScripting(m services.ScriptingMessage) {
	l.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.says(services.PPIDScripting, b)
}

// getsScripting returns the next message, and answers keep-alives.
func (l *link) getsScripting(want services.ScriptingType) services.ScriptingMessage {
	l.t.Helper()
	for {
		m, err := services.ParseScripting(l.gets(services.PPIDScripting))
		if err != nil {
			l.t.Fatal(err)
		}
		if m.Type == services.ScriptingKeepAlive {
			l.saysScripting(services.ScriptingMessage{Type: services.ScriptingKeepAliveAck})
			continue
		}
		if m.Type != want {
			l.t.Fatalf("message %+v, want one of type %d", m, want)
		}
		return m
	}
}

func (l *link) uploads(data []byte) {
	for len(data) > 0 {
		n := min(len(data), 1000)
		l.saysScripting(services.ScriptingMessage{Type: services.ScriptingUpload, Data: data[:n]})
		data = data[n:]
	}
	l.saysScripting(services.ScriptingMessage{Type: services.ScriptingUpload})
}

// downloads returns the status and the result.
func (l *link) downloads() (uint32, string) {
	l.t.Helper()
	status := l.getsScripting(services.ScriptingStatus)
	var all []byte
	for {
		m := l.getsScripting(services.ScriptingDownload)
		if len(m.Data) == 0 {
			return status.Status(), string(all)
		}
		all = append(all, m.Data...)
	}
}

// runs has a scripting service run a package.
func runs(t *testing.T, cfg ScriptingConfig, data []byte) (uint32, string) {
	t.Helper()
	l := serve(t, NewScripting(cfg))
	if m := l.getsScripting(services.ScriptingReady); string(m.Data) != "here" {
		t.Errorf("ready as %q", m.Data)
	}
	l.uploads(data)
	if m := l.getsScripting(services.ScriptingStatus); m.Status() != 0 {
		t.Errorf("status %d at the start", m.Status())
	}
	status, out := l.downloads()
	close(l.toElement)
	if err := l.ends(); err != nil {
		t.Errorf("the session ends with %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "work-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	return status, out
}

// TestScripting: what packages can do, and what they cannot.
func TestScripting(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RSP_SECRET", "secret")
	for _, c := range []struct {
		name   string
		data   []byte
		status uint32
		out    string
	}{
		{"result", pack(t, script(`cat data/in >"$1"; echo "$# [$2][$3][$4]" >>"$1"`), file{name: "data/in", text: "hello\n"}), 0, "hello\n4 [][][]\n"},
		{"long result", pack(t, script(`dd if=/dev/zero of="$1" bs=50000 count=1 2>/dev/null; exit 3`)), 3, strings.Repeat("\x00", 50000)},
		{"no result", pack(t, script(`exit 0`)), 0, ""},
		{"killed", pack(t, script(`kill -KILL $$`)), 137, ""},
		{"environment", pack(t, script(`env >"$1"; pwd >>"$1"; echo "${RSP_SECRET:-none}" >>"$1"`)), 0, ""},
		{"result is a link", pack(t, script(`ln -s '`+secret+`' "$1"`)), 0, ""},
		{"result is a pipe", pack(t, script(`mkfifo "$1"`)), 0, ""},
		{"file too large", pack(t, script(`dd if=/dev/zero of=large bs=65536 count=100 2>/dev/null; stat -c %s large >"$1"`)), 0, "1048576\n"},
		{"no tar", []byte("garbage"), exitBroken, ""},
		{"empty", nil, 127, ""},
		{"no script", pack(t, file{name: "x", text: "x"}), 127, ""},
		{"not executable", pack(t, file{name: "ssrun", text: "#!/bin/sh\n", mode: 0o600}), 126, ""},
		{"outside", pack(t, script(""), file{name: "../../outside", text: "x"}), exitBroken, ""},
		{"absolute", pack(t, script(""), file{name: "/tmp/rsp-outside", text: "x"}), exitBroken, ""},
		{"link", pack(t, script(""), file{name: "x", typ: tar.TypeSymlink, link: "/etc"}), exitBroken, ""},
		{"hard link", pack(t, script(""), file{name: "x", typ: tar.TypeLink, link: "/etc/passwd"}), exitBroken, ""},
		{"device", pack(t, script(""), file{name: "x", typ: tar.TypeBlock}), exitBroken, ""},
		{"bomb", pack(t, script(""), file{name: "x", text: strings.Repeat("\x00", 11<<20)}), exitBroken, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := runs(t, scriptingConfig(t), c.data)
			if c.name == "environment" {
				if strings.Contains(out, "secret") || !strings.Contains(out, "HOME=/") {
					t.Errorf("the program's environment:\n%s", out)
				}
				out = ""
			}
			if status != c.status || out != c.out {
				t.Errorf("status %d, %.60q, want %d, %.60q", status, out, c.status, c.out)
			}
		})
	}
}

// TestScriptingEnvironment: an environment is uploaded once, and must have its hash.
func TestScriptingEnvironment(t *testing.T) {
	c := NewScripting(scriptingConfig(t))
	environment := []byte("the environment")
	hash := sha1.Sum(environment)
	for run := range 2 {
		l := serve(t, c)
		l.getsScripting(services.ScriptingReady)
		l.saysScripting(services.ScriptingMessage{Type: services.ScriptingEnvironment, Data: hash[:]})
		l.uploads(pack(t, script(`cat "$2" >"$1"`)))
		m := l.getsScripting(services.ScriptingEnvironment)
		if wanted := m.Flags&services.EnvironmentWanted != 0; wanted != (run == 0) || !bytes.Equal(m.Data, hash[:]) {
			t.Errorf("run %d: %+v", run, m)
		}
		if run == 0 {
			l.uploads(environment)
		}
		l.getsScripting(services.ScriptingStatus)
		if status, out := l.downloads(); status != 0 || out != string(environment) {
			t.Errorf("run %d: status %d, %q", run, status, out)
		}
		close(l.toElement)
		if err := l.ends(); err != nil {
			t.Error(err)
		}
	}
	l := serve(t, c)
	l.getsScripting(services.ScriptingReady)
	l.saysScripting(services.ScriptingMessage{Type: services.ScriptingEnvironment, Data: make([]byte, services.HashSize)})
	l.uploads(nil)
	l.getsScripting(services.ScriptingEnvironment)
	l.uploads(environment)
	if err := l.ends(); err == nil {
		t.Error("an environment with another hash is no error")
	}
	for range 2 * maxEnvironments {
		environment = append(environment, 'x')
		sum := sha1.Sum(environment)
		from := filepath.Join(c.cfg.Dir, "from")
		if err := os.WriteFile(from, environment, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.cache.put(sum[:], from); err != nil {
			t.Fatal(err)
		}
	}
	if kept, _ := os.ReadDir(c.cache.dir); len(kept) != maxEnvironments {
		t.Errorf("%d environments are kept, want %d", len(kept), maxEnvironments)
	}
}

// TestScriptingBusy: a second user is refused while the first one's package runs, and the
// package ends with its session.
func TestScriptingBusy(t *testing.T) {
	cfg := scriptingConfig(t)
	c := NewScripting(cfg)
	l := serve(t, c)
	l.getsScripting(services.ScriptingReady)
	second := serve(t, c)
	second.getsScripting(services.ScriptingNotReady)
	if err := second.ends(); err != nil {
		t.Error(err)
	}
	pipe := filepath.Join(t.TempDir(), "running")
	l.uploads(pack(t, script(`echo x >'`+pipe+`'; sleep 100 & sleep 100`)))
	l.getsScripting(services.ScriptingStatus)
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(pipe); err == nil {
			break // the package runs
		} else if time.Now().After(late) {
			t.Fatal("the package does not run within 30 s")
		}
	}
	l.saysScripting(services.ScriptingMessage{Type: services.ScriptingKeepAlive})
	if m := l.getsScripting(services.ScriptingKeepAliveAck); m.Status() != 0 {
		t.Errorf("status %d", m.Status())
	}
	start := time.Now()
	close(l.toElement)
	if err := l.ends(); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the package ended %v after its session", d)
	}
	third := serve(t, c) // there is room again
	third.getsScripting(services.ScriptingReady)
	third.cancel()
	if err := third.ends(); err == nil {
		t.Error("no error at the element's end")
	}
}

// TestScriptingLimits: too much is refused: an upload, time.
func TestScriptingLimits(t *testing.T) {
	cfg := scriptingConfig(t)
	cfg.MaxPackage = 5000
	l := serve(t, NewScripting(cfg))
	l.getsScripting(services.ScriptingReady)
	l.uploads(make([]byte, 6000))
	if err := l.ends(); err == nil || !strings.Contains(err.Error(), "uploads more than 5000 bytes") {
		t.Errorf("a long upload: %v", err)
	}
	cfg = scriptingConfig(t)
	cfg.Run.Time = 200 * time.Millisecond
	if status, _ := runs(t, cfg, pack(t, script(`sleep 60`))); status != exitBroken {
		t.Errorf("status %d after the time", status)
	}
	cfg = scriptingConfig(t)
	cfg.KeepAlive = 50 * time.Millisecond
	l = serve(t, NewScripting(cfg))
	l.getsScripting(services.ScriptingReady)
	if err := l.ends(); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a silent user: %v", err)
	}
}

// TestIsolation: in namespaces of its own, a program has no network, and its processes end
// with it.
func TestIsolation(t *testing.T) {
	cfg := scriptingConfig(t)
	cfg.Run.Isolate = true
	if err := cfg.Run.Check(t.Context(), cfg.Dir); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	status, out := runs(t, cfg, pack(t, script(`grep -c : /proc/net/dev >"$1"; echo "pid $$" >>"$1"; id -u >>"$1"; (setsid sleep 100 &)`)))
	if status != 0 || !strings.Contains(out, "pid 1\n") {
		t.Errorf("status %d, %q", status, out)
	}
}

// TestRunAs: programs run as another user, who can write in their directory, and nowhere
// near it.
func TestRunAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: only root may run programs as another user")
	}
	cfg := scriptingConfig(t)
	cfg.Dir = filepath.Join("/tmp", filepath.Base(t.TempDir())+"-rsp-run-as")
	if err := os.Mkdir(cfg.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(cfg.Dir) })
	cfg.Run.SwitchUser, cfg.Run.UID, cfg.Run.GID, cfg.Run.Processes = true, 65534, 65534, 1000
	status, out := runs(t, cfg, pack(t, script(`id -u >"$1"; cat data/in >>"$1"; touch ../x 2>/dev/null || echo no >>"$1"; rm -rf data`), file{name: "data/in", text: "hello\n"}))
	if status != 0 || out != "65534\nhello\nno\n" {
		t.Errorf("status %d, %q", status, out)
	}
}
