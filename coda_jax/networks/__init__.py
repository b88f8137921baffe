"""Networks: CoDA-Nets, hybrids, B-cos networks, and conventional networks to compare them with.

All of them have `title`, the name that people write; `layer_names`, the names of the layers in the parameters, from the
input to the output; `gradcam_layer`, the last layer whose output has positions, which Grad-CAM explains; and
`quantity`, what maps of them are maps of. Conventional ones have no `decompose`.
"""
