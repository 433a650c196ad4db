using Microsoft.AspNetCore.Http.Features;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>A connection that changes its protocol has no response that could be kept.</summary>
internal sealed class NoUpgrade : IHttpUpgradeFeature
{
    public static NoUpgrade Instance { get; } = new();

    public bool IsUpgradableRequest => false;

    public Task<Stream> UpgradeAsync() => throw new InvalidOperationException("A request with an idempotency key cannot be upgraded: what follows has no response that could be kept.");
}
