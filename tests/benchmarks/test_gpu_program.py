from benchmarks.gpu_program import kernels

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
