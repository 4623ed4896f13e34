package sctp

import "sync/atomic"

// SendQueue holds the messages that the peer has not acknowledged.
type SendQueue struct {
	Msgs  []Message
	Bytes int // of msgs
	// Total is the bytes of all queues that share Limits.SendQueueTotal, with
	// MessageCost for each message; nil if there are none.
	Total *atomic.Int64
}

// MessageCost is about what a queued message takes beside its bytes.
const MessageCost = 256

// QueueShare is what a queue may hold when all together are full.
const QueueShare = 16 << 10

// Push adds a message if there is room for it.
func (q *SendQueue) Push(m Message, lim Limits) bool {
	bytes := q.Bytes + len(m.Data)
	if len(q.Msgs) >= lim.SendQueueMessages || bytes > lim.SendQueueBytes {
		return false
	}
	// Two that push at the same time may both find the last room: that does
	// no harm.
	if q.Total != nil && len(q.Msgs) > 0 && bytes > QueueShare && int(q.Total.Load())+len(m.Data) > lim.SendQueueTotal {
		return false
	}
	q.Msgs = append(q.Msgs, m)
	q.Add(1, len(m.Data))
	return true
}

// Full says that the peer does not take what is queued: nothing more of some
// size is worth making for it.
func (q *SendQueue) Full(lim Limits) bool {
	switch {
	case len(q.Msgs) == 0:
		return false
	case len(q.Msgs) >= lim.SendQueueMessages, q.Bytes+QueueShare > lim.SendQueueBytes:
		return true
	}
	return q.Total != nil && q.Bytes >= QueueShare && int(q.Total.Load()) >= lim.SendQueueTotal
}

// Add counts messages and bytes that come or, below 0, go.
func (q *SendQueue) Add(messages, bytes int) {
	q.Bytes += bytes
	if q.Total != nil {
		q.Total.Add(int64(messages*MessageCost + bytes))
	}
}

// Unpush takes the last message back.
func (q *SendQueue) Unpush() {
	last := len(q.Msgs) - 1
	q.Add(-1, -len(q.Msgs[last].Data))
	q.Msgs = q.Msgs[:last]
}

// Take empties the queue.
func (q *SendQueue) Take() []Message {
	msgs := q.Msgs
	q.Add(-len(msgs), -q.Bytes)
	q.Msgs = nil
	return msgs
}

// Keep drops the oldest messages until no more than the given number of bytes
// is still to be delivered.
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
