package server

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// tlsConfig is TLS 1.3 with a certificate of the identity's own key, signed by itself. A client looks at the key alone: dates and names prove nothing
// to a robot that boots without a clock.
func tlsConfig(id *identity.Identity) (*tls.Config, error) {
	key := signer{id}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: id.Address().String()},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5: no end
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate of the Base: %w", err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		SessionTicketsDisabled: true, // they save no round trip, and cost bytes
	}, nil
}

// signer signs with an identity. What TLS and X.509 sign begins otherwise than everything else that identities sign.
type signer struct{ id *identity.Identity }

func (s signer) Public() crypto.PublicKey {
	key := s.id.SigningKey()
	return ed25519.PublicKey(key[:])
}

func (s signer) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != 0 {
		return nil, errors.New("Ed25519 signs messages, no digests")
	}
	return s.id.Sign(message), nil
}
