/*
 * CPUID for a guest: KVM's supported set, made to fit the topology (one package, N cores of one
 * thread, APIC id = vCPU number). Intel SDM volume 2 "CPUID", AMD APM volume 3 appendix E, and
 * Documentation/virt/kvm/x86/cpuid.rst for the paravirtual leaves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <asm/kvm_para.h>
#include <linux/kvm.h>

#include "vmm/x86_64/cpuid.h"

#define CPUID_MAX_ENTRIES 256

#define LEAF1_ECX_X2APIC	    (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE	    (1u << 24)
#define LEAF1_ECX_HYPERVISOR	    (1u << 31)
#define LEAF1_EDX_HTT		    (1u << 28)
#define LEAF80000001_ECX_CMP_LEGACY (1u << 1)

#define TOPOLOGY_SMT  1u
#define TOPOLOGY_CORE 2u

static struct kvm_cpuid2 *cpuid_alloc(void)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_MAX_ENTRIES * sizeof(cpuid->entries[0]));

	if (cpuid)
		cpuid->nent = CPUID_MAX_ENTRIES;
	return cpuid;
}

/* Asked once a machine: it costs tens of thousands of instructions in the kernel. NULL: no answer.
 */
static const struct kvm_cpuid2 *supported(struct kvm *kvm)
{
	if (kvm->cpuid)
		return kvm->cpuid;
	kvm->cpuid = cpuid_alloc();
	if (kvm->cpuid && kvm_system_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, kvm->cpuid) < 0) {
		free(kvm->cpuid);
		kvm->cpuid = NULL;
	}
	return kvm->cpuid;
}

unsigned cpuid_physical_bits(struct kvm *kvm)
{
	const struct kvm_cpuid2 *cpuid = supported(kvm);
	unsigned bits = 0;

	for (unsigned i = 0; cpuid && i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0x80000008)
			bits = cpuid->entries[i].eax & 0xff;
	return bits >= 32 && bits <= 52 ? bits : 36;
}

/* How many bits an APIC id needs to tell `count` apart. */
static unsigned id_bits(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

/* Leaf 4 (Intel) and 0x8000001d (AMD): caches. The last level is shared by all, others private. */
static void cache_leaf(struct kvm_cpuid_entry2 *e, unsigned cpus)
{
	unsigned level = (e->eax >> 5) & 7;
	unsigned sharing = level >= 3 ? (1u << id_bits(cpus)) - 1 : 0;
	unsigned cores = (1u << id_bits(cpus)) - 1;

	if ((e->eax & 0x1f) == 0)
		return;
	e->eax &= ~(0xfffu << 14);
	e->eax |= sharing << 14;
	if (e->function == 4) {
		e->eax &= ~(0x3fu << 26);
		e->eax |= (cores & 0x3f) << 26;
	}
}

static void topology_leaf(struct kvm_cpuid_entry2 *e, unsigned id, unsigned cpus)
{
	e->flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax = 0;
	e->ebx = 0;
	e->ecx = e->index & 0xff;
	e->edx = id; /* the x2APIC id */
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= TOPOLOGY_SMT << 8;
	} else if (e->index == 1) {
		e->eax = id_bits(cpus);
		e->ebx = cpus;
		e->ecx |= TOPOLOGY_CORE << 8;
	}
}

static void fit(struct kvm_cpuid_entry2 *e, unsigned id, unsigned cpus, bool tsc_deadline)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xffff) | (1u << id_bits(cpus)) << 16 | id << 24;
		e->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
		if (tsc_deadline)
			e->ecx |= LEAF1_ECX_TSC_DEADLINE;
		e->edx &= ~LEAF1_EDX_HTT;
		if (cpus > 1)
			e->edx |= LEAF1_EDX_HTT;
		break;
	case 4:
	case 0x8000001d:
		cache_leaf(e, cpus);
		break;
	case 0xb:
	case 0x1f:
		topology_leaf(e, id, cpus);
		break;
	case KVM_CPUID_FEATURES:
		/* A page fault's interrupt that nothing here needs; it only widens the attack
		 * surface. */
		e->eax &= ~((1u << KVM_FEATURE_ASYNC_PF) | (1u << KVM_FEATURE_ASYNC_PF_VMEXIT) |
			    (1u << KVM_FEATURE_ASYNC_PF_INT));
		break;
	case 0x80000001:
		e->ecx &= ~LEAF80000001_ECX_CMP_LEGACY;
		break;
	case 0x80000008:
		/* NC: cores - 1; ApicIdCoreIdSize */
		e->ecx = (e->ecx & ~0xf0ffu) | id_bits(cpus) << 12 | (cpus - 1);
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = id & 0xff; /* one thread a core */
		e->ecx = 0;	    /* one node a package */
		break;
	default:
		break;
	}
}

#define KVM_FEATURE_BIT(name) (1u << KVM_FEATURE_##name)

/*
 * What KVM does only with a local APIC of its own. (PV_TLB_FLUSH and STEAL_TIME need none, nor does
 * the clock.) Performance counters could not interrupt.
 */
static void fit_without_lapic(struct kvm_cpuid_entry2 *e)
{
	switch (e->function) {
	case 1:
		e->ecx &= ~(LEAF1_ECX_X2APIC | LEAF1_ECX_TSC_DEADLINE);
		break;
	case 0xa:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case KVM_CPUID_FEATURES:
		e->eax &= ~(KVM_FEATURE_BIT(PV_EOI) | KVM_FEATURE_BIT(PV_UNHALT) |
			    KVM_FEATURE_BIT(PV_SEND_IPI) | KVM_FEATURE_BIT(POLL_CONTROL) |
			    KVM_FEATURE_BIT(PV_SCHED_YIELD) | KVM_FEATURE_BIT(MSI_EXT_DEST_ID));
		break;
	default:
		break;
	}
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

/* The extended topology leaf has a core level, whatever the host's KVM listed of it. */
static void complete_topology(struct kvm_cpuid2 *c)
{
	static const uint32_t leaves[] = { 0xb, 0x1f };

	for (unsigned i = 0; i < 2; i++) {
		for (uint32_t level = 0; level < 3; level++) {
			if (!find(c, leaves[i], 0) || find(c, leaves[i], level) ||
			    c->nent == CPUID_MAX_ENTRIES)
				continue;
			c->entries[c->nent++] = (struct kvm_cpuid_entry2){
				.function = leaves[i],
				.index = level,
			};
		}
	}
}

int cpuid_apply(struct vcpu *vcpu, struct error *e)
{
	struct kvm *kvm = vcpu->set->kvm;
	bool tsc_deadline = kvm_capability(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	const struct kvm_cpuid2 *from = supported(kvm);
	struct kvm_cpuid2 *cpuid;
	int err;

	if (!from)
		return error_set(e, -ENODEV, "KVM does not say which CPUID it supports");
	cpuid = cpuid_alloc();
	if (!cpuid)
		return error_set(e, -ENOMEM, "out of memory");
	memcpy(cpuid, from, sizeof(*from) + from->nent * sizeof(from->entries[0]));
	complete_topology(cpuid);
	for (unsigned i = 0; i < cpuid->nent; i++)
		fit(&cpuid->entries[i], vcpu->id, vcpu->set->total, tsc_deadline);
	for (unsigned i = 0; kvm->without_lapic && i < cpuid->nent; i++)
		fit_without_lapic(&cpuid->entries[i]);
	err = ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
	free(cpuid);
	return err ? error_set_errno(e, err, "vCPU %u: KVM refuses the CPUID", vcpu->id) : 0;
}
