using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Webhooks;

/// <summary>A scheme and its keys as they were when the options were taken, and what is used again from one message to the next. A reload makes another ring; who uses this one goes on with it.</summary>
internal sealed class WebhookKeyRing
{
    private readonly Key[] _keys;
    private readonly bool _isBounded;
    private int _toldNone;

    /// <param name="options">The options.</param>
    /// <param name="tolerance">Of timestamps.</param>
    /// <param name="name">The name that stays when options change; null: theirs. What was seen is kept under it.</param>
    public WebhookKeyRing(WebhookOptions options, TimeSpan tolerance, string? name = null)
    {
        options.ThrowIfInvalid();
        Name = name ?? options.Name ?? "";
        Layout = new WebhookLayout(options.Scheme);
        Tolerance = (long)Math.Floor(tolerance.TotalSeconds);
        NameDigest = SHA256.HashData(Encoding.UTF8.GetBytes(Name));
        _keys = [.. options.Keys.Select(key => options.IsPublic(key.Secret)
            ? new Key(null, options.PublicKeys!(key.Secret), key.NotBefore, key.Expires)
            : new Key(options.Bytes(key.Secret, out _)!, null, key.NotBefore, key.Expires))];
        _isBounded = _keys.Any(key => key.NotBefore is not null || key.Expires is not null);
        Pool = new WebhookStatePool(this);
    }

    public string Name { get; }

    public WebhookLayout Layout { get; }

    /// <summary>In seconds.</summary>
    public long Tolerance { get; }

    /// <summary>Keeps apart what verifiers of different names have seen.</summary>
    public byte[] NameDigest { get; }

    public WebhookStatePool Pool { get; }

    public int Count => _keys.Length;

    /// <summary>Whether the time matters at all.</summary>
    public bool NeedsTime => _isBounded || Layout.HasTimestamp;

    public bool HasPublic => _keys.Any(key => key.Public is not null);

    public WebhookPublicKey? Public(int key) => _keys[key].Public;

    /// <summary>A bit for each key in force.</summary>
    public uint InForce(DateTimeOffset now)
    {
        uint mask = 0;
        for (int i = 0; i < _keys.Length; i++)
        {
            mask |= (_keys[i].NotBefore is { } from && now < from) || (_keys[i].Expires is { } to && now >= to) ? 0 : 1u << i;
        }

        return mask;
    }

    public IncrementalHash NewHash(int key) => IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _keys[key].Secret!);

    /// <summary>Once for each ring.</summary>
    public bool TellsNoKey() => Interlocked.Exchange(ref _toldNone, 1) == 0;

    /// <remarks>The bytes of a secret are not zeroed when the ring goes: somebody who still uses the ring would then accept what is signed with zeros.</remarks>
    private sealed record Key(byte[]? Secret, WebhookPublicKey? Public, DateTimeOffset? NotBefore, DateTimeOffset? Expires);
}
