/*
 * The protocol of Interlock: how processes that may die at any moment move one instance along its table.
 *
 * Two managers ask for anything, in any order, at the same time. A manager may be killed between any two statements; a
 * machine may die, a transition's work may fail, its undoing too, and the host may go down. `budget` bounds how much of
 * this happens in one run; Spin tries every way in which it can. At the end, when nothing goes wrong any more, one
 * `delete --force` must lead to absent.
 *
 * The table is generated; the rest is written by hand after fsm/engine.py and fsm/instance.py. What a CHECK says must
 * hold wherever it stands. Defines that break the engine on purpose, to show that Spin would notice:
 *   UNLOCK_EARLY      the lock is given back before the outcome is written
 *   RECOVER_BLINDLY   recovery does not observe: it takes every machine for dead
 *   USE_TWICE         a saved memory is still there when its machine runs
 */

/* TABLE */

#ifndef REQUESTS
#define REQUESTS 2 /* of the first manager */
#endif
#ifndef OTHERS
#define OTHERS 1 /* of the second one, at any moment; with 2, a search visits ten times as many states */
#endif
#ifndef BUDGET
#define BUDGET 2 /* of things that go wrong */
#endif

#define NEW(t) (APPEARS(t) && !directory)

#define NOBODY 0
#define FINAL 3 /* the number of the process that deletes at the end; the managers are 1 and 2 */

#define CHECK(condition, words) \
    if \
    :: (condition) -> skip \
    :: else -> printf("violated: "); printf(words); printf("\n"); assert(false) \
    fi

#define say(words, t) d_step { printf("process %d: ", me); printf(words); name_of(t) }

/* The world, which survives every process. */
byte machines = (BEGIN == running -> 1 : 0); /* hypervisors alive on this instance's disk */
bool directory = (BEGIN != absent); /* the instance's directory is there */
bool staged = false; /* .creating/NAME is there */
bool saved = false; /* the machine's memory is: it can be loaded again */

/* The journal, which survives every process too. */
mtype:state state = BEGIN;
bool in_flight = false; /* the last line is no outcome */
mtype:trigger operation;
byte writer = NOBODY;  /* who wrote the intent */

/* What dies with a process. */
byte lock = NOBODY;
byte note = NOBODY;    /* who was asked to let go of the lock */
bool killed[4];
byte ended = 0;

byte budget = BUDGET;

/* -- the work of one transition: engine's writes around a driver's effects ------------------------------------------- */

/* Undo `t`, begun and not ended, by its rule. */
inline undo(t) {
    if
    :: RULE(t) == roll_back -> staged = false
    :: RULE(t) == probe -> machines = 0
    :: RULE(t) == let_run && machines > 0 -> saved = false
    :: else -> skip
    fi
}

/* Carry out `t`; `asked` is true when it is what this process was asked for: then it has a plan, and may boot. */
inline carry_out(t, asked) {
    atomic {                                   /* intent */
        CHECK(lock == me, "a process wrote without the lock");
        CHECK(!in_flight || recovering, "a process began a transition over one that was not settled");
        if
        :: NEW(t) -> staged = true
        :: else -> in_flight = true; operation = t; writer = me
        fi;
        begun(t);
#ifdef UNLOCK_EARLY
        lock = NOBODY;
#endif
        failed = false
    };
    atomic {                                   /* the driver's effect */
        if
        :: NEW(t) ->
            CHECK(asked, "a transition that needs a plan was carried out without one")
        :: else -> skip
        fi;
        if
        :: BOOTS(t) && (observed || machines == 0) ->
            CHECK(directory, "a hypervisor was started without a disk");
            if
            :: machines > 0 && !saved -> skip  /* it was seen alive: only its answer is awaited */
            :: machines > 0 && saved && !(asked) -> machines = 0; failed = true /* it was loaded and never ran */
            :: (machines == 0 || saved) && asked -> machines = 1
            :: machines == 0 && !(asked) -> failed = true
            fi
        :: BOOTS(t) && !observed && machines > 0 ->
            CHECK(false, "two hypervisors run on one disk")
        :: SAVES(t) && !saved && machines > 0 -> saved = true
        :: SAVES(t) && !saved && machines == 0 -> failed = true
        :: SAVES(t) && saved -> skip
        :: ENDS(t) && !SAVES(t) -> machines = 0
        :: GUARDED(t) -> CHECK(machines == 0, "a disk was destroyed under a living hypervisor"); saved = false
        :: else -> skip
        fi
    };
    atomic {                                   /* and its second: a memory goes before its machine runs, and comes after */
        if
#ifndef USE_TWICE
        :: BOOTS(t) && !failed && machines > 0 -> saved = false
#endif
        :: SAVES(t) && !failed -> machines = 0
        :: GUARDED(t) && !VANISHES(t) && machines == 0 -> saved = true /* a snapshot may hold one */
        :: GUARDED(t) && !VANISHES(t) -> skip
        :: else -> skip
        fi
    };
    atomic {                                   /* what came of it */
        if
        :: note == me -> failed = true; say("is asked to call off: ", t)
        :: budget > 0 -> budget--; failed = true
        :: BOOTS(t) && machines == 0 -> failed = true
        :: !(BOOTS(t) && machines == 0) -> skip
        fi
    };
    if
    :: failed ->
        atomic {
            if
            :: budget > 0 -> budget--; undone = false; say("fails, and so does undoing: ", t)
            :: RULE(t) == let_run && machines == 0 && state == running -> undone = false /* nothing is left to be let run */
            :: RULE(t) != let_run || machines > 0 || state != running -> undone = true; undo(t)
            fi
        };
        atomic {
            if
            :: undone -> in_flight = false; say("has undone, because it failed: ", t)
            :: else -> skip
            fi
        }
    :: else ->
        atomic {                               /* outcome; for what appears, it counts from the rename on */
            if
            :: NEW(t) -> staged = false; directory = true
            :: else -> CHECK(in_flight && operation == t && writer == me, "an outcome was written to the operation of another")
            fi;
            state = DEST(t, state);
            CHECK(state != running || !saved, "a machine runs whose memory could be used again");
            CHECK(!SAVES(t) || (saved && machines == 0), "a suspend succeeded and its memory is not there");
            in_flight = false;
            done(t)
        };
        atomic {
            if
            :: VANISHES(t) -> directory = false
            :: else -> skip
            fi
        }
    fi
}

/* -- settling: what a dead process left, and what the world did meanwhile -------------------------------------------- */

inline observe() {
#ifdef RECOVER_BLINDLY
    observed = false
#else
    observed = (machines > 0)
#endif
}

inline settle(wanted) {
    recovering = true;
    if
    :: staged && RULE(CREATE) == roll_back -> atomic { undo(CREATE); say("removes what a dead process left of: ", CREATE) }
    :: staged && RULE(CREATE) == redo -> carry_out(CREATE, false)
    :: else -> skip
    fi;
    atomic { observe() };
    if
    :: directory && in_flight && RULE(operation) == abandon || (RULE(operation) == probe && !observed) ->
        atomic { say("finds cut short, and gives up: ", operation); undo(operation); in_flight = false }
    :: directory && in_flight && (RULE(operation) == redo || (RULE(operation) == probe && observed)) ->
        say("finds cut short, and finishes: ", operation);
        carry_out(operation, (wanted == operation))
    :: directory && in_flight && RULE(operation) == let_run && saved ->
        say("finds cut short, and finishes: ", operation);
        carry_out(operation, (wanted == operation))
    :: directory && in_flight && RULE(operation) == let_run && !saved && (observed || state != running) ->
        atomic { say("finds cut short, and lets run: ", operation); undo(operation); in_flight = false }
    :: directory && in_flight && RULE(operation) == let_run && !saved && !observed && state == running ->
        atomic { in_flight = false; state = DEST(EXIT, running); say("notices: ", EXIT) }
    :: directory && !in_flight && state == absent -> directory = false
    :: directory && !in_flight && state == running && !observed -> atomic { state = DEST(EXIT, running); say("notices: ", EXIT) }
    :: else -> skip
    fi;
    recovering = false
}

inline decide(wanted) {
    if
    :: !in_flight && LEGAL(wanted, state) ->
        CHECK(!AT_REST(state) || machines == 0, "an instance that is at rest has a living hypervisor");
        atomic { observed = (machines > 0) };
        carry_out(wanted, true);
        CHECK(failed || !ENDS(wanted) || machines == 0 || lock != me, "a stop succeeded and a hypervisor lives")
    :: !in_flight && !LEGAL(wanted, state) && HOLDS(wanted, state) -> say("finds already so: ", wanted)
    :: else -> say("is refused: ", wanted)
    fi
}

inline release() {
    atomic {
        if
        :: lock == me -> lock = NOBODY
        :: else -> skip
        fi;
        if
        :: note == me -> note = NOBODY
        :: else -> skip
        fi
    }
}

/* -- the processes --------------------------------------------------------------------------------------------------- */

inline request(wanted) {
    if
    :: atomic { lock != NOBODY && in_flight && YIELDS(operation, wanted) -> note = lock }
    :: true -> skip
    fi;
    if
    :: atomic { lock == NOBODY -> lock = me };
        settle(wanted);
        if
        :: lock == me -> decide(wanted)
        :: else -> skip
        fi;
        release()
    :: lock != NOBODY -> skip                  /* busy: refused; Spin also tries that it asked a moment later */
    fi
}

proctype manager(byte me) {
    byte requests = 0;
    mtype:trigger wanted;
    bool observed = false, failed = false, undone = false, recovering = false;
again:
    {
        do
        :: requests < (me == 1 -> REQUESTS : OTHERS) ->
            atomic { requests++; CHOOSE(wanted); say("asks for: ", wanted) };
            request(wanted)
        :: else -> break
        od
    } unless {
        atomic {
            killed[me];
            printf("process %d: killed\n", me);
            killed[me] = false;
            release();
            observed = false; failed = false; undone = false; recovering = false
        };
        goto again
    };
    atomic { ended++; killed[me] = false }
}

/* What nobody asked for: a manager is killed, the machine dies, the host goes down. */
proctype adversary() {
    do
    :: atomic { budget > 0 && ended < 2 ->
        budget--;
        if
        :: killed[1] = true
        :: killed[2] = true
        :: machines > 0 -> machines = 0; printf("the machine died\n")
        :: machines = 0; killed[1] = true; killed[2] = true; printf("the host went down\n")
        fi }
    :: ended == 2 -> break
    od
}

/* `delete --force`, when all is quiet. */
inline ask_for(wanted) {
    lock = me;
    settle(wanted);
    decide(wanted);
    release()
}

proctype insister(byte me) {
    bool observed = false, failed = false, undone = false, recovering = false;
    ended == 2;
    budget = 0;
    CHECK(lock == NOBODY, "a lock outlived its holder");
    printf("process %d: asks for delete --force\n", me);
    force();
    CHECK(!in_flight, "an operation stays in flight for ever");
    CHECK(state == absent && !directory && !staged && machines == 0, "delete --force did not lead to absent")
}

init {
    atomic {
        run manager(1);
        run manager(2);
        run adversary();
        run insister(FINAL)
    }
}
