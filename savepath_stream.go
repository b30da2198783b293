package sessionring

import "strings"

const streamPassphrase = "passphrase"

// streamOptions lists the options of PHP's ssl stream context that are read.
func streamOptions() []string {
	return []string{
		"cafile", "capath", "local_cert", "local_pk", streamPassphrase, "peer_name",
		"verify_peer", "verify_peer_name", "allow_self_signed",
	}
}

func isStreamOption(name string) bool {
	for _, option := range streamOptions() {
		if name == option {
			return true
		}
	}
	return false
}

// readStream reads stream[option]=value. phpredis 6 hands the array to PHP's TLS as it is; 5.3.7 ignores it.
func (e *entry) readStream(p phpParam, stream *phpValue, done map[string]bool) {
	if !stream.isArray() {
		if !done[p.name] {
			done[p.name] = true
			e.warn("stream without brackets is ignored; write stream[cafile]= and the like")
		}
		return
	}
	if len(p.keys) == 0 {
		return // overwritten by stream[…]
	}
	if !done[p.name] {
		done[p.name] = true
		if e.kind == KindNodes && e.node.TLS {
			e.warn("phpredis 5.3.7 ignores stream[…]; 6 reads it")
		}
	}
	option := p.keys[0]
	v := stream.elements[option]
	if v == nil || done["stream["+option+"]"] {
		if v == nil {
			e.reject("stream[] names no option", "write stream[cafile]= and the like")
		}
		return
	}
	done["stream["+option+"]"] = true
	if v.isArray() || len(p.keys) > 1 {
		e.reject("an option of stream is an array", "write stream[option]=value")
		return
	}
	s := &e.node.Stream
	switch option {
	case "cafile":
		s.CAFile = strings.TrimPrefix(v.str, "file://")
	case "capath":
		s.CAPath = strings.TrimPrefix(v.str, "file://")
	case "local_cert":
		s.LocalCert = strings.TrimPrefix(v.str, "file://")
	case "local_pk":
		s.LocalKey = strings.TrimPrefix(v.str, "file://")
	case streamPassphrase:
		s.Passphrase = NewSecret(v.str)
	case "peer_name":
		s.PeerName = v.str
	case "verify_peer":
		s.SkipVerifyPeer = !e.streamSwitch(option, v, true)
		if s.SkipVerifyPeer && (e.node.TLS || e.kind != KindNodes) {
			e.warn("verify_peer=0: anybody on the way can pass for the server")
		}
	case "verify_peer_name":
		s.SkipVerifyName = !e.streamSwitch(option, v, true)
	case "allow_self_signed":
		s.AllowSelfSigned = e.streamSwitch(option, v, false)
	case "peer_fingerprint":
		e.fail("stream[peer_fingerprint] is not supported, and leaving it unread would trust more than is meant",
			"pin the certificate with stream[cafile]= and stream[allow_self_signed]=1")
	case "verify_depth", "ciphers", "security_level", "crypto_method", "capture_peer_cert", "capture_peer_cert_chain",
		"SNI_enabled", "disable_compression", "no_ticket", "min_proto_version", "max_proto_version":
		e.warn("stream[" + option + "] is not read: Go's TLS decides that")
	default:
		remedy := "leave it out"
		if near := nearest(option, streamOptions()); near != "" {
			remedy = "did you mean stream[" + near + "]?"
		}
		name := masked
		if isPlainName(option) {
			name = option
		}
		e.reject("unknown option stream["+name+"]", remedy)
	}
}

// streamSwitch is PHP's reading, in which "false" is true; where that would trust more than is meant it is refused.
func (e *entry) streamSwitch(option string, v *phpValue, strict bool) bool {
	switch on := v.truthy(); {
	case !on:
		return false
	case strings.EqualFold(v.str, "false"), strings.EqualFold(v.str, "no"), strings.EqualFold(v.str, "off"):
		if on != strict {
			e.fail("PHP takes every word for true, and stream["+option+"] would be on", "write 0 for off")
			return false
		}
		e.warn("PHP takes every word for true, so stream[" + option + "] is on; write 0 for off")
	}
	return true
}
