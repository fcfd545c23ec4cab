package core

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// DedupeKey is a digest of a source's name and the parts of a request that make it the same as another.
type DedupeKey [16]byte

// NewDedupeKey digests a source's name and the parts that the decoder's manifest chose. Parts are length-prefixed, so that
// no two lists of parts run together.
func NewDedupeKey(source string, parts ...[]byte) DedupeKey {
	h := sha256.New()
	var n [8]byte
	write := func(p []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	write([]byte(source))
	for _, p := range parts {
		write(p)
	}
	var k DedupeKey
	copy(k[:], h.Sum(nil))
	return k
}

// RequestID is the public id of the request with this dedupe key: "req_" and 32 hexadecimal digits, and "_r<n>" for the
// n-th acceptance of the same key after its dedupe window had passed.
func RequestID(k DedupeKey, repeat int) string {
	id := "req_" + hex.EncodeToString(k[:])
	if repeat > 0 {
		id += "_r" + strconv.Itoa(repeat)
	}
	return id
}

// ParseRequestID is the inverse of RequestID.
func ParseRequestID(id string) (k DedupeKey, repeat int, err error) {
	rest, ok := strings.CutPrefix(id, "req_")
	if !ok {
		return k, 0, fmt.Errorf("%q is not a request id: it does not start with req_", id)
	}
	return parseDigest(id, rest)
}

func parseDigest(id, rest string) (k DedupeKey, repeat int, err error) {
	digest, tail, repeated := strings.Cut(rest, "_r")
	if len(digest) != hex.EncodedLen(len(k)) {
		return k, 0, fmt.Errorf("%q is not an id: it needs %d hexadecimal digits", id, hex.EncodedLen(len(k)))
	}
	if _, err := hex.Decode(k[:], []byte(digest)); err != nil {
		return k, 0, fmt.Errorf("%q is not an id: %w", id, err)
	}
	if repeated {
		if repeat, err = strconv.Atoi(tail); err != nil || repeat < 1 {
			return k, 0, fmt.Errorf("%q is not an id: bad repeat count %q", id, tail)
		}
	}
	return k, repeat, nil
}

// EventID is the public id of the index-th event of a request: "evt_" and the request's digest, then "_<index>".
func EventID(k DedupeKey, repeat, index int) string {
	return "evt" + RequestID(k, repeat)[len("req"):] + "_" + strconv.Itoa(index)
}

// DeliveryID is the public id of the delivery of an event through a route to a sink: "dlv_", the event's digest and index,
// and eight hexadecimal digits that stand for route, sink and replay. It holds no full stop, so it serves as webhook-id.
func DeliveryID(eventID, route, sink string, replay int) string {
	return NewDeliveryTag(route, sink, replay).ID(eventID)
}

// DeliveryTag is the last part of a delivery's id, the same for all deliveries through a route to a sink.
type DeliveryTag string

// NewDeliveryTag digests a route, a sink and a replay count.
func NewDeliveryTag(route, sink string, replay int) DeliveryTag {
	sum := sha256.Sum256([]byte(route + "\x00" + sink + "\x00" + strconv.Itoa(replay)))
	return DeliveryTag(hex.EncodeToString(sum[:4]))
}

// ID is the id of the delivery of an event.
func (t DeliveryTag) ID(eventID string) string {
	return "dlv" + strings.TrimPrefix(eventID, "evt") + "_" + string(t)
}

// ParseDeliveryID finds the request and the event index in a delivery id; the last part tells deliveries of one event
// apart and is matched against the whole id.
func ParseDeliveryID(id string) (k DedupeKey, repeat, index int, err error) {
	rest, ok := strings.CutPrefix(id, "dlv_")
	if !ok {
		return k, 0, 0, fmt.Errorf("%q is not a delivery id: it does not start with dlv_", id)
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return k, 0, 0, fmt.Errorf("%q is not a delivery id: too short", id)
	}
	return parseEvent(id, rest[:i])
}

// ParseEventID is the inverse of EventID.
func ParseEventID(id string) (k DedupeKey, repeat, index int, err error) {
	rest, ok := strings.CutPrefix(id, "evt_")
	if !ok {
		return k, 0, 0, fmt.Errorf("%q is not an event id: it does not start with evt_", id)
	}
	return parseEvent(id, rest)
}

// Locate takes the id of a request, or of an event or a delivery of one, and returns that of the request, and that of the
// event unless it is the request's own.
func Locate(id string) (requestID, eventID string, err error) {
	var k DedupeKey
	var repeat int
	index := -1
	switch {
	case strings.HasPrefix(id, "evt_"):
		k, repeat, index, err = ParseEventID(id)
	case strings.HasPrefix(id, "dlv_"):
		k, repeat, index, err = ParseDeliveryID(id)
	default:
		k, repeat, err = ParseRequestID(id)
	}
	if err != nil {
		return "", "", err
	}
	if index >= 0 {
		eventID = EventID(k, repeat, index)
	}
	return RequestID(k, repeat), eventID, nil
}

func parseEvent(id, rest string) (k DedupeKey, repeat, index int, err error) {
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return k, 0, 0, fmt.Errorf("%q is not an id: no event index", id)
	}
	if index, err = strconv.Atoi(rest[i+1:]); err != nil || index < 0 || index >= MaxEvents {
		return k, 0, 0, fmt.Errorf("%q is not an id: bad event index %q", id, rest[i+1:])
	}
	k, repeat, err = parseDigest(id, rest[:i])
	return k, repeat, index, err
}

// DeliveryKey places a delivery: request sequence, event index and ordinal in one number that grows in accept order. It is
// the store's primary key and the sequence that sinks see.
type DeliveryKey int64

const (
	ordinalBits = 12
	indexBits   = 12
)

// NewEventKey is the key of an event, and of the range of its deliveries.
func NewEventKey(requestSeq int64, index int) int64 { return requestSeq<<indexBits | int64(index) }

// NewDeliveryKey places the ordinal-th delivery of an event.
func NewDeliveryKey(requestSeq int64, index, ordinal int) DeliveryKey {
	return DeliveryKey(NewEventKey(requestSeq, index)<<ordinalBits | int64(ordinal))
}

// EventKey is the key of the delivery's event.
func (k DeliveryKey) EventKey() int64 { return int64(k) >> ordinalBits }

// RequestSeq is the accept sequence of the delivery's request.
func (k DeliveryKey) RequestSeq() int64 { return int64(k) >> (ordinalBits + indexBits) }
