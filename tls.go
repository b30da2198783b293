package sessionring

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// TLSConfig returns what the entry asks of TLS, for connections beside the Client's; nil for a plain entry.
// It reads the files that the entry names, and errors are theirs.
func (n Node) TLSConfig() (*tls.Config, error) {
	if !n.TLS {
		return nil, nil
	}
	return tlsConfig(n)
}

// tlsConfig turns PHP's stream context options into Go's. The default verifies chain and name.
func tlsConfig(cfg Node) (*tls.Config, error) {
	s := cfg.Stream
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		host = cfg.Address
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if s.PeerName != "" {
		t.ServerName = s.PeerName
	}
	roots, err := certPool(s)
	if err != nil {
		return nil, err
	}
	t.RootCAs = roots
	if s.LocalCert != "" {
		key := s.LocalKey
		if key == "" {
			key = s.LocalCert
		}
		cert, err := loadKeyPair(s.LocalCert, key, s.Passphrase)
		if err != nil {
			return nil, fmt.Errorf("stream[local_cert]: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	switch {
	case s.SkipVerifyPeer:
		t.InsecureSkipVerify = true
	case s.SkipVerifyName, s.AllowSelfSigned:
		t.InsecureSkipVerify = true
		t.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPeer(cs, s, t.RootCAs, t.ServerName) }
	}
	return t, nil
}

// verifyPeer does what crypto/tls would, less the part that the entry switched off.
func verifyPeer(cs tls.ConnectionState, s StreamOptions, roots *x509.CertPool, name string) error {
	leaf := cs.PeerCertificates[0]
	if s.AllowSelfSigned && len(cs.PeerCertificates) == 1 && leaf.CheckSignatureFrom(leaf) == nil {
		if s.SkipVerifyName {
			return nil
		}
		return leaf.VerifyHostname(name)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	if !s.SkipVerifyName {
		opts.DNSName = name
	}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(opts)
	return err
}

func certPool(s StreamOptions) (*x509.CertPool, error) {
	files := []string{}
	if s.CAFile != "" {
		files = append(files, s.CAFile)
	}
	if s.CAPath != "" {
		found, err := filepath.Glob(filepath.Join(s.CAPath, "*"))
		if err != nil {
			return nil, fmt.Errorf("stream[capath]: %w", err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, nil // the system's
	}
	pool := x509.NewCertPool()
	added := false
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			if f == s.CAFile {
				return nil, fmt.Errorf("stream[cafile]: %w", err)
			}
			continue // a directory of hashes holds other files too
		}
		added = pool.AppendCertsFromPEM(pem) || added
	}
	if !added {
		return nil, errors.New("stream[cafile] and stream[capath] hold no certificate in PEM form")
	}
	return pool, nil
}

func loadKeyPair(cert, key string, pass Secret) (tls.Certificate, error) {
	if pass.IsZero() || pass.Reveal() == "" {
		return tls.LoadX509KeyPair(cert, key)
	}
	return tls.Certificate{}, errors.New("encrypted private keys (stream[passphrase]) are not supported: store the key unencrypted, readable by the application alone")
}
