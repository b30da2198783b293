package phpsession

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
)

// phpredis reads what Go compressed, and Go what phpredis compressed.
func TestPhpredisCompression(t *testing.T) {
	path, err := exec.LookPath("php")
	if err != nil {
		t.Skip("no php in PATH")
	}
	probe := `exit(extension_loaded("redis") && defined("Redis::COMPRESSION_LZF") && defined("Redis::COMPRESSION_LZ4") && defined("Redis::COMPRESSION_ZSTD") ? 0 : 3);`
	if err := exec.Command(path, "-r", probe).Run(); err != nil {
		t.Skip("php has no redis extension with lzf, lz4 and zstd")
	}
	server := redistest.Node(t)
	cmd := exec.Command(path, "testdata/compress.php", server.Addr())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("php: %v\n%s", err, stderr.Bytes())
		}
	})
	out := bufio.NewReader(stdout)
	ask := func(op string, how Compression, data []byte) []byte {
		t.Helper()
		fmt.Fprintf(in, "%s %s %s\n", op, how, base64.StdEncoding.EncodeToString(data))
		line, err := out.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Fatalf("php answered %.200q: %v", line, err)
		}
		return b
	}
	smaller := 0
	for i, data := range compressible() {
		for _, how := range []Compression{LZF, LZ4, Zstd} {
			stored, err := Compress(how, data)
			if err != nil {
				t.Fatal(err)
			}
			if len(stored) < len(data)/2 {
				smaller++
			}
			if got := ask("read", how, stored); !bytes.Equal(got, data) {
				t.Errorf("%s #%d: phpredis reads %d bytes %.60q, not %d %.60q", how, i, len(got), got, len(data), data)
			}
			if back, err := Decompress(how, stored); err != nil || !bytes.Equal(back, data) {
				t.Errorf("%s #%d: read back %.60q, %v", how, i, back, err)
			}
			if how == Zstd {
				continue
			}
			stored = ask("write", how, data)
			if back, err := Decompress(how, stored); err != nil || !bytes.Equal(back, data) {
				t.Errorf("%s #%d, by phpredis: %.60q, %v", how, i, back, err)
			}
		}
	}
	if smaller < 20 {
		t.Errorf("only %d values were compressed to half", smaller)
	}
}

// compressible are values of all lengths around the formats' borders, from
// random bytes to one byte only.
func compressible() [][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	for _, n := range []int{1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16, 19, 20, 31, 32, 33, 34, 64, 260, 263, 264, 265, 266, 270, 285, 530, 1000, 8192, 9000, 70000, 131072, 131073, 300000} {
		for _, alphabet := range []int{1, 2, 20, 256} {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rnd.IntN(alphabet))
			}
			if n > 600 { // repetitions near and far
				copy(b[n-250:], b[:200])
				copy(b[300:], b[10:310])
			}
			all = append(all, b)
		}
	}
	return all
}

func TestCompress(t *testing.T) {
	for i, data := range compressible() {
		for _, how := range []Compression{"", Uncompressed, LZF, LZ4, Zstd} {
			stored, err := Compress(how, data)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := Decompress(how, stored); err != nil || !bytes.Equal(back, data) {
				t.Errorf("%s #%d: %.60q, %v", how, i, back, err)
			}
			if len(stored) > len(data)+len(data)/25+16 {
				t.Errorf("%s #%d: %d bytes became %d", how, i, len(data), len(stored))
			}
		}
	}
	if b, err := Compress(LZF, nil); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Compress("gzip", []byte("x")); err == nil {
		t.Error("gzip was accepted")
	}
}
