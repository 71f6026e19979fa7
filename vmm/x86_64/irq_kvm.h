/*
 * The interrupt chips that KVM emulates: PIC pair, I/O APIC, PIT and one LAPIC a vCPU, and the GSI
 * routes that let an eventfd deliver a message.
 */
#ifndef VMM_X86_64_IRQ_KVM_H
#define VMM_X86_64_IRQ_KVM_H

#include "vmm/error.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"

struct irq_kvm;

/* Before the first vCPU. */
struct irq_kvm *irq_kvm_create(struct kvm *kvm, struct error *e);
void irq_kvm_destroy(struct irq_kvm *chip);
/* PIC, I/O APIC and PIT as after power on; vCPUs paused. Routes stay. */
int irq_kvm_reset(struct irq_kvm *chip, struct error *e);

extern const struct irq_chip_ops irq_kvm_ops;

#endif
