package session

// queue holds messages, the oldest first. It keeps its memory while it is in use, and gives
// it back if it was much.
type queue struct {
	buf   []Message // a ring
	first int       // the oldest one's place in buf
	n     int       // messages
	bytes int       // of their Data
}

// keepCap is how many places an empty queue keeps.
const keepCap = 16

// at returns the i-th message.
func (q *queue) at(i int) *Message { return &q.buf[(q.first+i)%len(q.buf)] }

func (q *queue) push(m Message) {
	if q.n == len(q.buf) {
		q.grow()
	}
	q.n++
	*q.at(q.n - 1) = m
	q.bytes += len(m.Data)
}

func (q *queue) grow() {
	buf := make([]Message, max(4, 2*q.n))
	for i := range q.n {
		buf[i] = *q.at(i)
	}
	q.buf, q.first = buf, 0
}

// pop removes the oldest message. There is one.
func (q *queue) pop() Message {
	m := *q.at(0)
	*q.at(0) = Message{}
	q.first = (q.first + 1) % len(q.buf)
	q.n--
	q.bytes -= len(m.Data)
	if q.n == 0 && len(q.buf) > keepCap {
		q.clear()
	}
	return m
}

// remove removes the i-th message.
func (q *queue) remove(i int) {
	q.bytes -= len(q.at(i).Data)
	for ; i < q.n-1; i++ {
		*q.at(i) = *q.at(i + 1)
	}
	*q.at(q.n - 1) = Message{}
	q.n--
}

func (q *queue) clear() { *q = queue{} }

// list returns the messages in a slice of their own.
func (q *queue) list() []Message {
	list := make([]Message, q.n)
	for i := range list {
		list[i] = *q.at(i)
	}
	return list
}

// cost counts a message as what it holds in memory.
func (q *queue) cost() int { return q.bytes + q.n*messageCost }

// messageCost is about the memory of a message beside its bytes. Without it, a peer could
// have a queue hold 64 times its bound in messages of one byte.
const messageCost = 64
