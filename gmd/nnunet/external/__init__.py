"""The folder for nnUNet_extTrainer: nnU-Net imports all that lies here, so nothing else may."""
