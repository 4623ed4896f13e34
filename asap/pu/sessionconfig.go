package pu

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func (u *User) newSession(cfg SessionConfig, only *rserpool.PoolElement) (*Session, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	core, err := session.NewUser(session.UserConfig{
		Pool: cfg.Pool, Element: cfg.Element, Only: only, Cookie: cfg.Cookie, Card: cloneCard(cfg.Card),
		Unacked: session.Unacked(cfg.Unacked), MaxUnacked: cfg.MaxUnacked, MaxReceive: cfg.MaxReceive,
		AnswerTimeout: cfg.AnswerTimeout, FailoverTime: cfg.FailoverTime, ConnectTime: cfg.ConnectTime,
		CloseTime: u.runner.cfg.Timers.Close, EndOnShutdown: cfg.EndOnShutdown, NoFailover: cfg.NoFailover,
		Seed: u.sessions.seed(),
	})
	if err != nil {
		return nil, err
	}
	return &Session{
		user: u, ppid: cfg.PPID, pool: cfg.Pool, notify: cfg.Notify, onFailover: cfg.OnFailover, core: core,
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), sender: make(chan struct{}, 1),
		done: make(chan struct{}),
	}, nil
}

func (c *SessionConfig) check() error {
	switch {
	case c.Pool == "":
		return errors.New("no pool handle: set Pool")
	case c.Unacked > Ask:
		return fmt.Errorf("Unacked is %d: want Drop, Resend or Ask", c.Unacked)
	case (c.Unacked == Ask) != (c.OnFailover != nil):
		return errors.New("OnFailover belongs to Unacked: Ask: set both or none")
	}
	return session.CheckMessage(Message{Data: []byte{0}, PPID: c.PPID})
}

func cloneCard(card *asap.BusinessCard) *asap.BusinessCard {
	if card == nil {
		return nil
	}
	return &asap.BusinessCard{Handle: card.Handle, Elements: cloneElements(card.Elements)}
}

func cloneMessages(list []Message) []Message {
	list = slices.Clone(list)
	for i := range list {
		list[i].Data = slices.Clone(list[i].Data)
	}
	return list
}

func cloneElements(list []rserpool.PoolElement) []rserpool.PoolElement {
	list = slices.Clone(list)
	for i := range list {
		list[i] = list[i].Clone()
	}
	return list
}
