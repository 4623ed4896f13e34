package sctp

import "sync/atomic"

// SendQueue holds the messages for one peer that have not left yet. Its owner locks it.
type SendQueue struct {
	Msgs  []Message
	Bytes int // of Msgs
	// Total is the sum over all queues that share Limits.SendQueueTotal, of their
	// bytes and MessageCost for each message; nil if the limit does not hold.
	Total *atomic.Int64

	refused bool // Push has returned false, and Relieved not yet true
}

// MessageCost is about the memory of a queued message beside its bytes.
const MessageCost = 256

// QueueShare is what a queue may hold although SendQueueTotal is reached, in bytes.
const QueueShare = 16 << 10

// Push adds a message if there is room for it.
func (q *SendQueue) Push(m Message, lim Limits) bool {
	bytes := q.Bytes + len(m.Data)
	switch {
	case len(q.Msgs) >= lim.SendQueueMessages, bytes > lim.SendQueueBytes,
		// Two queues may exceed the total together if both are pushed at the same
		// time. That does no harm.
		q.Total != nil && len(q.Msgs) > 0 && bytes > QueueShare && int(q.Total.Load())+len(m.Data) > lim.SendQueueTotal:
		q.refused = true
		return false
	}
	q.Msgs = append(q.Msgs, m)
	q.Add(1, len(m.Data))
	return true
}

// Full reports whether a message of more than a few bytes would be refused.
func (q *SendQueue) Full(lim Limits) bool {
	switch {
	case len(q.Msgs) == 0:
		return false
	case len(q.Msgs) >= lim.SendQueueMessages, q.Bytes+QueueShare > lim.SendQueueBytes:
		return true
	}
	return q.Total != nil && q.Bytes >= QueueShare && int(q.Total.Load()) >= lim.SendQueueTotal
}

// Relieved reports, once after Push has returned false, that half of the queue is free.
func (q *SendQueue) Relieved(lim Limits) bool {
	if !q.refused || 2*len(q.Msgs) > lim.SendQueueMessages || 2*q.Bytes > lim.SendQueueBytes {
		return false
	}
	if q.Total != nil && 2*q.Bytes > QueueShare && int(q.Total.Load()) >= lim.SendQueueTotal {
		return false
	}
	q.refused = false
	return true
}

// Refused reports whether Push has returned false, and Relieved not yet true.
func (q *SendQueue) Refused() bool { return q.refused }

// Behind reports whether so much is queued that a message pushed now may leave late.
func (q *SendQueue) Behind() bool { return q.Bytes > QueueShare }

// Add adds to the sums; negative numbers are for messages that leave.
func (q *SendQueue) Add(messages, bytes int) {
	q.Bytes += bytes
	if q.Total != nil {
		q.Total.Add(int64(messages*MessageCost + bytes))
	}
}

// Unpush removes the message that was pushed last.
func (q *SendQueue) Unpush() {
	last := len(q.Msgs) - 1
	q.Add(-1, -len(q.Msgs[last].Data))
	q.Msgs = q.Msgs[:last]
}

// Drain empties the queue and returns what was in it.
func (q *SendQueue) Drain() []Message {
	msgs := q.Msgs
	q.Add(-len(msgs), -q.Bytes)
	q.Msgs = nil
	return msgs
}

// Keep removes the oldest messages until removing one more would leave less than
// the given number of bytes.
func (q *SendQueue) Keep(bytes int) {
	n := 0
	for n < len(q.Msgs) && q.Bytes-len(q.Msgs[n].Data) >= bytes {
		q.Add(-1, -len(q.Msgs[n].Data))
		q.Msgs[n] = Message{}
		n++
	}
	if n == len(q.Msgs) {
		q.Msgs = q.Msgs[:0]
		return
	}
	q.Msgs = q.Msgs[n:]
}
