/*
 * What CPU the guest sees: what KVM supports here, with one package of N single-threaded cores.
 */
#ifndef VMM_X86_64_CPUID_H
#define VMM_X86_64_CPUID_H

#include "vmm/error.h"
#include "vmm/kvm.h"
#include "vmm/vcpu.h"

/* KVM_SET_CPUID2 for this vCPU. */
int cpuid_apply(struct vcpu *vcpu, struct error *e);

/* Bits of a guest-physical address, 36 if KVM does not say. */
unsigned cpuid_physical_bits(struct kvm *kvm);

#endif
