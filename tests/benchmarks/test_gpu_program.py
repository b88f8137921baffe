from benchmarks.gpu_program import host_launches, kernels

PROGRAM = """HloModule jit_f, is_scheduled=true

%fused (p: f32[2,3]) -> f32[2] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %sums = f32[2]{0} reduce(%p), dimensions={1}
}

ENTRY %main (x: bf16[4,3], y: bf16[3,8]) -> (f32[4], s32[]) {
  %x = bf16[4,3]{1,0} parameter(0), metadata={op_name="x"}
  %y = bf16[3,8]{1,0} parameter(1)
  %flat = bf16[12]{0} bitcast(%x)
  %product.1 = f32[4,8]{1,0} fusion(%flat, %y), kind=kCustom, calls=%gemm
  %pair = (f32[4]{0}, s32[]) fusion(%product.1, %product.1), kind=kInput, calls=%fused
  %part = f32[4]{0} get-tuple-element(%pair), index=0
  ROOT %result = (f32[4]{0}, s32[]) tuple(%part)
}
"""


def test_kernels_by_hand():
    # Twelve and 24 values of 2 bytes read and 32 of 4 written; 32 of 4 read once, and five of 4 written.
    assert kernels(PROGRAM) == [("%product.1", 24 + 48 + 128), ("%pair", 128 + 20)]


LOOPS = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[4,8], f32[8])) -> (s32[], f32[4,8], f32[8]) {
  %p = (s32[], f32[4,8]{1,0}, f32[8]{0}) parameter(0)
  %parts = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %whole = f32[8]{0} get-tuple-element(%p), index=2
  %sum = f32[8]{0} fusion(%parts, %whole), kind=kLoop, calls=%fused
  ROOT %next = (s32[], f32[4,8]{1,0}, f32[8]{0}) tuple(%p, %parts, %sum)
}

ENTRY %main (x: (s32[], f32[4,8], f32[8])) -> f32[8] {
  %x = (s32[], f32[4,8]{1,0}, f32[8]{0}) parameter(0)
  %chunks = (s32[], f32[4,8]{1,0}, f32[8]{0}) while(%x), body=%body, backend_config={"known_trip_count":{"n":"4"}}
  %steps = (s32[], f32[4,8]{1,0}, f32[8]{0}) while(%chunks), condition=%more, body=%body
  ROOT %result = f32[8]{0} get-tuple-element(%steps), index=2
}
"""


def test_kernels_in_loops_by_hand():
    # In four rounds each reads one of four parts, 8 values of 4 bytes; a round of an unknown number reads all.
    assert kernels(LOOPS) == [("%sum", 3 * 32)] * 4 + [("%sum", 6 * 32)]


def test_host_launches_by_hand():
    thunks = """000: kCommandBuffer [source]
    001: kCustomKernel [source] a
    002: kCustomKernel [prev=001] b
003: kWhile [prev=000]
condition:
    000: kCustomKernel [source] compare
  body:
    000: kCommandBuffer [source]
        001: kCustomKernel [source] c
    002: kCopy [prev=000]
004: kCustomKernel [prev=003] d
"""
    # Two graphs, the comparison, the copy and the last kernel.
    assert host_launches(thunks) == 5
