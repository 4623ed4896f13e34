// Command bench measures the figures of docs/performance.md, each beside a
// neighbour in the same run, and prints them as one table. `make bench` runs
// it. It needs Linux, for the CPU time of other processes.
//
// The name servers are processes of their own, the load and the pool elements
// are here. What is to be compared takes turns, many times, so that whatever
// else the machine does hits all of them.
package main
