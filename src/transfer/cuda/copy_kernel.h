// The kernel that copies a list of runs, as PTX text: the driver compiles it for its device, so that
// no CUDA compiler is needed to build.
//
// Parameter: address of {u64 to, u64 from, u64 bytes} entries, all multiples of 16. Block (x, y)
// copies part x of entry y: 16 bytes a thread, four in flight. Anything that the device can address
// does: its own memory, a peer's, pinned host memory.
#pragma once

namespace baton::transfer::cuda {

inline constexpr const char* kCopyKernelName = "baton_copy";
inline constexpr const char* kCopyKernel = R"(
.version 6.3
.target sm_70
.address_size 64

.visible .entry baton_copy(.param .u64 p_list)
{
  .reg .pred %p<4>;
  .reg .b32 %r<24>;
  .reg .b64 %rd<24>;

  ld.param.u64 %rd1, [p_list];
  mov.u32 %r1, %ctaid.y;
  mul.wide.u32 %rd2, %r1, 24;
  add.s64 %rd3, %rd1, %rd2;
  ld.global.u64 %rd4, [%rd3];
  ld.global.u64 %rd5, [%rd3+8];
  ld.global.u64 %rd6, [%rd3+16];

  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  mul.wide.u32 %rd7, %r5, 16;
  mov.u32 %r6, %nctaid.x;
  mul.lo.s32 %r7, %r6, %r3;
  mul.wide.u32 %rd8, %r7, 16;
  add.s64 %rd9, %rd8, %rd8;
  add.s64 %rd10, %rd9, %rd8;
  add.s64 %rd11, %rd9, %rd9;

MANY:
  add.s64 %rd12, %rd7, %rd10;
  setp.ge.u64 %p1, %rd12, %rd6;
  @%p1 bra FEW;
  add.s64 %rd13, %rd5, %rd7;
  add.s64 %rd14, %rd13, %rd8;
  add.s64 %rd15, %rd13, %rd9;
  add.s64 %rd16, %rd13, %rd10;
  ld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%rd13];
  ld.global.v4.u32 {%r12, %r13, %r14, %r15}, [%rd14];
  ld.global.v4.u32 {%r16, %r17, %r18, %r19}, [%rd15];
  ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd16];
  add.s64 %rd17, %rd4, %rd7;
  add.s64 %rd18, %rd17, %rd8;
  add.s64 %rd19, %rd17, %rd9;
  add.s64 %rd20, %rd17, %rd10;
  st.global.v4.u32 [%rd17], {%r8, %r9, %r10, %r11};
  st.global.v4.u32 [%rd18], {%r12, %r13, %r14, %r15};
  st.global.v4.u32 [%rd19], {%r16, %r17, %r18, %r19};
  st.global.v4.u32 [%rd20], {%r20, %r21, %r22, %r23};
  add.s64 %rd7, %rd7, %rd11;
  bra MANY;

FEW:
  setp.ge.u64 %p2, %rd7, %rd6;
  @%p2 bra END;
  add.s64 %rd13, %rd5, %rd7;
  add.s64 %rd17, %rd4, %rd7;
  ld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%rd13];
  st.global.v4.u32 [%rd17], {%r8, %r9, %r10, %r11};
  add.s64 %rd7, %rd7, %rd8;
  bra FEW;

END:
  ret;
}
)";

}  // namespace baton::transfer::cuda
