"""timm's training loop: GLSLoss in the place of `LabelSmoothingCrossEntropy`, which takes no rate below 0.

Needs timm, scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter, accuracy

from nls import GLSLoss, corrupt, symmetric

EPOCHS, WARM_UP = 8, 2

# Odd or even, two classes, to keep it small: at this rate the network trains on all ten digits, too.
X, y = load_digits(return_X_y=True)
images = torch.from_numpy(X.reshape(-1, 1, 8, 8) / 16).float().repeat_interleave(4, 2).repeat_interleave(4, 3)
train, test = train_test_split(torch.arange(len(y)), stratify=y, random_state=0)
noisy, clean = torch.from_numpy(corrupt(y % 2, symmetric(2, 0.3), seed=0)), torch.from_numpy(y % 2)

for rate in (0.0, -3.0):  # 0 is cross entropy; which is better on your data, nls.choose_rate tells
    torch.manual_seed(0)
    model = create_model("test_resnet", pretrained=False, in_chans=1, num_classes=2)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3, weight_decay=0.02)
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS)
    train_loss_fn = GLSLoss(0.0)
    for epoch in range(EPOCHS):
        scheduler.step(epoch)
        train_loss_fn.smooth_rate = rate if epoch >= WARM_UP else 0.0  # first find the classes
        model.train()
        losses = AverageMeter()
        for rows in train[torch.randperm(len(train))].split(128):
            loss = train_loss_fn(model(images[rows]), noisy[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(rows))

    model.eval()
    with torch.no_grad():
        (top1,) = accuracy(model(images[test]), clean[test])
    print(f"loss of the last epoch at rate {rate:g}, which may be negative: {losses.avg:.3f}")
    print(f"clean accuracy at rate {rate:g}: {top1.item() / 100:.3f}")
