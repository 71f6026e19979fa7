/*
 * What lapic.c and lapic_timer.c share.
 */
#ifndef DEVICES_EMULATED_LAPIC_INTERNAL_H
#define DEVICES_EMULATED_LAPIC_INTERNAL_H

#include "devices/emulated/lapic.h"

#define LAPIC_AT(offset)     ((offset) >> 4)
#define LAPIC_REG(l, offset) ((l)->reg[LAPIC_AT(offset)])

/* An entry of the local vector table has its cause. */
enum lapic_taken lapic_raise(struct lapic *l, unsigned lvt);
void lapic_error(struct lapic *l, uint32_t error);

/* Initial count and divide configuration. */
void lapic_timer_write(struct lapic *l, unsigned reg, uint32_t value, int64_t now);
uint32_t lapic_timer_count(const struct lapic *l, int64_t now);

#endif
