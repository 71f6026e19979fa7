/*
 * A kernel that refuses a system call: for the calling thread and those it starts from now on, and
 * for good. Criterion gives each test a process, with which that goes.
 */
#ifndef TESTS_UNIT_TEST_REFUSE_H
#define TESTS_UNIT_TEST_REFUSE_H

void refuse(unsigned nr, int err);
/* Only if its argument (0 is the first) has that bit. */
void refuse_if(unsigned nr, unsigned argument, unsigned bit, int err);

#endif
