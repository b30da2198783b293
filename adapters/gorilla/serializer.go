package gorillastore

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"

	"github.com/gorilla/sessions"
)

// Serializer turns a session's Values into bytes and back. It has the form that other Redis stores for gorilla
// use.
type Serializer interface {
	Serialize(s *sessions.Session) ([]byte, error)
	// Deserialize fills s.Values. With an error what it left there is not used.
	Deserialize(data []byte, s *sessions.Session) error
}

// Gob writes values with encoding/gob: types of the application must be registered with gob.Register.
type Gob struct{}

// Serialize writes the values.
func (Gob) Serialize(s *sessions.Session) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(s.Values)
	return b.Bytes(), err
}

// Deserialize reads the values.
func (Gob) Deserialize(data []byte, s *sessions.Session) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(&s.Values)
}

// JSON writes values as one JSON object: keys must be strings, and numbers come back as float64.
type JSON struct{}

// Serialize writes the values.
func (JSON) Serialize(s *sessions.Session) ([]byte, error) {
	m := make(map[string]any, len(s.Values))
	for k, v := range s.Values {
		key, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("JSON has string keys, not %T", k)
		}
		m[key] = v
	}
	return json.Marshal(m)
}

// Deserialize reads the values.
func (JSON) Deserialize(data []byte, s *sessions.Session) error {
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	for k, v := range m {
		s.Values[k] = v
	}
	return nil
}
