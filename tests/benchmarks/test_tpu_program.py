from benchmarks.tpu_program import traffic

PROGRAM = """HloModule jit_f, is_scheduled=true

%fused (p: f32[2,3]) -> f32[2] {
  %p = f32[2,3]{1,0:T(8,128)} parameter(0)
  ROOT %sums = f32[2]{0:T(128)} reduce(%p), dimensions={1}
}

ENTRY %main (x: bf16[8,16], y: bf16[16,256]) -> f32[8,256] {
  %x = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="x"}
  %y = bf16[16,256]{0,1:T(8,128)(2,1)} parameter(1)
  %start = (bf16[16,256]{0,1:T(8,128)(2,1)S(1)}, bf16[16,256]{0,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%y)
  %done = bf16[16,256]{0,1:T(8,128)(2,1)S(1)} copy-done(%start)
  ROOT %product = f32[8,256]{1,0:T(8,128)} fusion(%x, %done), kind=kOutput, calls=%fused
}
"""


def test_traffic_by_hand():
    # y is read once, by the copy: 16·256 values of 2 bytes; as its 16 lie along the lanes, 128·256. So do those of x,
    # 8·16 in 8·128. The product's 256 are two tiles, of 4 bytes a value.
    assert traffic(PROGRAM) == (2 * (16 * 256 + 8 * 16) + 4 * 8 * 256, 2 * (128 * 256 + 8 * 128) + 4 * 8 * 256)
