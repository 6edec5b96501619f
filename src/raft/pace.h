/* How fast the log is sent to a node that has no vote: as fast as everybody else's writes bear.
 *
 * A node that was given the state lacks what was written meanwhile. No write waits for its
 * confirmation, but what it does costs: the leader's network and processors, and a disk that the
 * nodes may share. So commits are watched: while they take more than twice as long as they do when
 * nobody is being caught up, the speed is halved ten times a second, else it grows by a quarter
 * (as congestion is controlled in networks: Chiu and Jain, 1989). It stays above one and a half
 * times the speed at which the log grows, so that the node does come to its end.
 *
 * Pure: no clock, no lock. One for a leader, whomever it catches up.
 */
#ifndef TIERKV_RAFT_PACE_H
#define TIERKV_RAFT_PACE_H

#include <stddef.h>
#include <stdint.h>

struct pace {
    double bytes_per_second; /* 0: not yet asked */
    double allowance;        /* Bytes that may be sent now */
    double usual_ms;         /* What commits take when nobody is being caught up; 0: not known */
    double growth;           /* Of the log, bytes a second */
    uint64_t asked_ms;       /* When pace_allowance was last called; 0: never */
    uint64_t window_ms;      /* The window's beginning; 0: none */
    double window_took_ms;   /* Sum over the window's commits */
    unsigned window_commits;
    double window_bytes;
};

/* Zeros are a pace at its beginning. */

/* An entry of that size was committed so long after it was submitted. */
void pace_committed(struct pace *pace, uint64_t now_ms, uint64_t took_ms, size_t bytes);

/* How many bytes may be sent now. */
size_t pace_allowance(struct pace *pace, uint64_t now_ms);
/* So many were. More than allowed is taken from what comes. */
void pace_sent(struct pace *pace, size_t bytes);
/* What was sent was not confirmed in time: back to the speed of the beginning, if it was higher. */
void pace_lost(struct pace *pace);

#endif
