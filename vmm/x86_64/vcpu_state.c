/*
 * A vCPU's state after power on and at the kernel's door. What KVM gives a new vCPU is taken as the
 * power-on state and kept, so that a reset puts back exactly that, MSRs included; then the boot CPU
 * gets the registers its boot protocol wants (boot/boot.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <asm/kvm_para.h>
#include <linux/kvm.h>

#include "vmm/log.h"
#include "vmm/vcpu.h"
#include "vmm/x86_64/cpuid.h"
#include "vmm/x86_64/layout.h"

#define MSR_MAX 512 /* KVM lists about 150 */

#define MSR_IA32_TSC	      0x10
#define MSR_MTRR_DEF_TYPE     0x2ff
#define MTRR_ENABLE_WRITEBACK 0xc06 /* MTRRs and fixed MTRRs on, default type write-back */
#define MSR_EFER	      0xc0000080

#define CR0_PE	 (1u << 0)
#define CR0_ET	 (1u << 4)
#define CR0_NW	 (1u << 29)
#define CR0_CD	 (1u << 30)
#define CR0_PG	 (1u << 31)
#define CR4_PAE	 (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define APIC_BASE_BSP	  (1u << 8)
#define APIC_BASE_ENABLED (1u << 11)

#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LVT_EXTINT	0x700
#define LVT_NMI		0x400

/* As struct kvm_msrs, with room. */
struct msr_list {
	uint32_t nmsrs;
	uint32_t pad;
	struct kvm_msr_entry entries[MSR_MAX];
};

struct vcpu_arch {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	struct kvm_nested_state nested; /* without data: as there are before VMXON or VMRUN */
	bool have_xcrs, have_lapic, have_nested;
	struct msr_list msrs;
};

static int vcpu_ioctl(const struct vcpu *vcpu, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(vcpu->fd, request, arg);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

/* ---- what power on looks like ---------------------------------------------------------------- */

/* Reads one MSR after the other: KVM lists some that this vCPU's CPUID does not have. */
static int save_msrs(struct vcpu *vcpu)
{
	struct {
		uint32_t nmsrs;
		uint32_t index[MSR_MAX];
	} all = { .nmsrs = MSR_MAX }; /* as struct kvm_msr_list */
	struct msr_list *msrs = &vcpu->arch->msrs;
	int err = kvm_system_ioctl(vcpu->set->kvm, KVM_GET_MSR_INDEX_LIST, &all);
	uint32_t next = 0;

	if (err < 0)
		return err;
	while (next < all.nmsrs) {
		struct msr_list part = { 0 };
		int got;

		for (uint32_t i = next; i < all.nmsrs; i++)
			part.entries[part.nmsrs++].index = all.index[i];
		got = vcpu_ioctl(vcpu, KVM_GET_MSRS, &part);
		if (got < 0)
			return got;
		for (int i = 0; i < got; i++)
			/* Time goes on over a reset, as on a PC whose kernel reads it anew. */
			if (part.entries[i].index != MSR_IA32_TSC)
				msrs->entries[msrs->nmsrs++] = part.entries[i];
		next += (uint32_t)got + 1;
	}
	return 0;
}

/* In the order saved; what KVM will not write (read-only, unchanged) is passed over. */
static int restore_msrs(const struct vcpu *vcpu)
{
	const struct msr_list *msrs = &vcpu->arch->msrs;
	uint32_t next = 0;

	while (next < msrs->nmsrs) {
		struct msr_list part = { .nmsrs = msrs->nmsrs - next };
		int done;

		memcpy(part.entries, &msrs->entries[next], part.nmsrs * sizeof(part.entries[0]));
		done = vcpu_ioctl(vcpu, KVM_SET_MSRS, &part);
		if (done < 0)
			return done;
		next += (uint32_t)done + 1;
	}
	return 0;
}

static void lapic_set(struct kvm_lapic_state *lapic, unsigned reg, uint32_t value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

/* KVM of before Linux 5.15 starts without one where it has no local APIC that could tell it. */
static int set_apic_base(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;
	int err = vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs);

	sregs.apic_base = LAYOUT_LAPIC | APIC_BASE_ENABLED | (vcpu->id == 0 ? APIC_BASE_BSP : 0);
	return err ? err : vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

/* What firmware would have done before a kernel starts: memory is write-back, NMI reaches LINT1. */
static int firmware_setup(struct vcpu *vcpu)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} mtrr = {
		.nmsrs = 1,
		.entry = { .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITEBACK },
	}; /* as struct kvm_msrs */
	struct kvm_lapic_state lapic;
	int err = vcpu_ioctl(vcpu, KVM_SET_MSRS, &mtrr);

	if (err < 0)
		return err;
	if (vcpu->set->kvm->without_lapic)
		return set_apic_base(vcpu); /* irq_user.c does the rest */
	err = vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	if (err < 0)
		return err;
	/* Virtual wire: the PIC interrupts the boot CPU. */
	if (vcpu->id == 0)
		lapic_set(&lapic, LAPIC_LVT_LINT0, LVT_EXTINT);
	lapic_set(&lapic, LAPIC_LVT_LINT1, LVT_NMI);
	return vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
}

static int save(struct vcpu *vcpu)
{
	struct vcpu_arch *a = vcpu->arch;
	int err = vcpu_ioctl(vcpu, KVM_GET_REGS, &a->regs);

	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_SREGS, &a->sregs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_FPU, &a->fpu);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &a->debugregs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_VCPU_EVENTS, &a->events);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_MP_STATE, &a->mp_state);
	if (!err)
		err = save_msrs(vcpu);
	/* A host without XSAVE gives none, and takes none, not even the none that it gave. */
	a->have_xcrs = vcpu_ioctl(vcpu, KVM_GET_XCRS, &a->xcrs) == 0 && a->xcrs.nr_xcrs > 0;
	a->have_lapic = vcpu_ioctl(vcpu, KVM_GET_LAPIC, &a->lapic) == 0;
	/* Nor do all hosts have this one, or take back what they gave. */
	a->nested.size = sizeof(a->nested);
	a->have_nested = vcpu_ioctl(vcpu, KVM_GET_NESTED_STATE, &a->nested) == 0 &&
			 vcpu_ioctl(vcpu, KVM_SET_NESTED_STATE, &a->nested) == 0;
	return err;
}

int vcpu_arch_create(struct vcpu *vcpu, struct error *e)
{
	int err = cpuid_apply(vcpu, e);

	if (err)
		return err;
	vcpu->arch = calloc(1, sizeof(*vcpu->arch));
	if (!vcpu->arch)
		return error_set(e, -ENOMEM, "out of memory");
	err = firmware_setup(vcpu);
	if (err >= 0)
		err = save(vcpu);
	return err < 0 ? error_set_errno(e, err, "vCPU %u: KVM does not give its state", vcpu->id)
		       : 0;
}

void vcpu_arch_destroy(struct vcpu *vcpu)
{
	free(vcpu->arch);
	vcpu->arch = NULL;
}

/* ---- reset ----------------------------------------------------------------------------------- */

/*
 * Ends the guest's own VMX or SVM, as after power on. First of all: what belongs to a guest's guest
 * would be taken for it, and in VMX operation KVM refuses any CR4 without VMXE.
 */
static int leave_nested(struct vcpu *vcpu)
{
	struct vcpu_arch *a = vcpu->arch;

	return a->have_nested ? vcpu_ioctl(vcpu, KVM_SET_NESTED_STATE, &a->nested) : 0;
}

static int restore(struct vcpu *vcpu)
{
	struct vcpu_arch *a = vcpu->arch;
	int err = leave_nested(vcpu);

	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &a->mp_state);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_SREGS, &a->sregs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_REGS, &a->regs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_FPU, &a->fpu);
	if (!err && a->have_xcrs)
		err = vcpu_ioctl(vcpu, KVM_SET_XCRS, &a->xcrs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &a->debugregs);
	if (!err)
		err = restore_msrs(vcpu);
	/* After the MSRs: APIC_BASE decides what kind of APIC takes this state. */
	if (!err && a->have_lapic)
		err = vcpu_ioctl(vcpu, KVM_SET_LAPIC, &a->lapic);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &a->events);
	return err;
}

static struct kvm_segment flat_segment(uint16_t selector, bool code, bool long_mode)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = code ? 0xb : 0x3, /* accessed; code: execute/read, data: read/write */
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && long_mode,
		.db = !(code && long_mode),
	};
}

static int enter_kernel(struct vcpu *vcpu, const struct boot_entry *entry)
{
	struct kvm_sregs sregs = vcpu->arch->sregs;
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsi = entry->rsi,
		.rbx = entry->rbx,
		.rsp = entry->rsp,
		.rflags = 2,
	};
	int err;

	sregs.cs = flat_segment(0x10, true, entry->long_mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
		flat_segment(0x18, false, entry->long_mode);
	sregs.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = entry->gdt, .limit = 4 * 8 - 1 };
	sregs.idt = (struct kvm_dtable){ 0 };
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (entry->long_mode) {
		sregs.cr3 = entry->cr3;
		sregs.cr4 = CR4_PAE;
		sregs.cr0 |= CR0_PG;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	err = vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
	return err ? err : vcpu_ioctl(vcpu, KVM_SET_REGS, &regs);
}

int vcpu_arch_reset(struct vcpu *vcpu, const struct boot_entry *entry, struct error *e)
{
	int err = restore(vcpu);

	if (!err && entry)
		err = enter_kernel(vcpu, entry);
	return err ? error_set_errno(e, err, "vCPU %u: KVM refuses its state", vcpu->id) : 0;
}

/* ---- INIT and startup ------------------------------------------------------------------------ */

/*
 * SDM volume 3, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT":
 * FPU, SSE and most MSRs stay, and so do the caches' bits in CR0 and the APIC's base. The clock
 * that KVM keeps in guest memory does not: the kernel that starts knows nothing of the old one's.
 */
int vcpu_arch_init(struct vcpu *vcpu)
{
	struct vcpu_arch *a = vcpu->arch;
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} clock = { .nmsrs = 1, .entry = { .index = MSR_KVM_SYSTEM_TIME_NEW } };
	struct kvm_sregs now, sregs = a->sregs;
	int err = leave_nested(vcpu);

	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_SREGS, &now);
	if (err)
		return err;
	sregs.cr0 = (sregs.cr0 & ~(uint64_t)(CR0_CD | CR0_NW)) | (now.cr0 & (CR0_CD | CR0_NW));
	sregs.apic_base = now.apic_base;
	err = vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_REGS, &a->regs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &a->debugregs);
	if (!err)
		err = vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &a->events);
	if (!err)
		vcpu_ioctl(vcpu, KVM_SET_MSRS, &clock);
	return err;
}

int vcpu_arch_startup(struct vcpu *vcpu, uint8_t vector)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int err = vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs);

	if (!err)
		err = vcpu_ioctl(vcpu, KVM_GET_REGS, &regs);
	if (err)
		return err;
	sregs.cs.selector = (uint16_t)(vector << 8);
	sregs.cs.base = (uint64_t)vector << 12;
	regs.rip = 0;
	err = vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
	return err ? err : vcpu_ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* ---- crash report ---------------------------------------------------------------------------- */

static void dump_segment(const char *name, const struct kvm_segment *s)
{
	fprintf(stderr, "%s %04x base %016llx limit %08x type %x s %x dpl %x db %x l %x g %x\n",
		name, s->selector, (unsigned long long)s->base, s->limit, s->type, s->s, s->dpl,
		s->db, s->l, s->g);
}

void vcpu_arch_dump(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (vcpu_ioctl(vcpu, KVM_GET_REGS, &r) || vcpu_ioctl(vcpu, KVM_GET_SREGS, &s)) {
		log_error("vcpu%u: KVM does not give its registers", vcpu->id);
		return;
	}
	fprintf(stderr,
		"rip %016llx rflags %08llx\n"
		"rax %016llx rbx %016llx rcx %016llx rdx %016llx\n"
		"rsi %016llx rdi %016llx rsp %016llx rbp %016llx\n"
		"r8  %016llx r9  %016llx r10 %016llx r11 %016llx\n"
		"r12 %016llx r13 %016llx r14 %016llx r15 %016llx\n",
		r.rip, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9,
		r.r10, r.r11, r.r12, r.r13, r.r14, r.r15);
	dump_segment("cs ", &s.cs);
	dump_segment("ss ", &s.ss);
	dump_segment("ds ", &s.ds);
	dump_segment("tr ", &s.tr);
	fprintf(stderr,
		"gdt base %016llx limit %04x   idt base %016llx limit %04x\n"
		"cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %08llx\n",
		s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit, s.cr0, s.cr2, s.cr3, s.cr4,
		s.efer);
}
