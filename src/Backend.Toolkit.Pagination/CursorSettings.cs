using System.Security.Cryptography;

namespace Backend.Toolkit.Pagination;

/// <summary>Options in force, ready to use.</summary>
internal sealed class CursorSettings
{
    public CursorSettings(CursorPaginatorOptions options, CursorSeal? random)
    {
        Opening = options.Keys.Count > 0 ? [.. options.Keys.Select(static key => new CursorSeal(key.Id, key.Secret))] : [random ?? new CursorSeal(0, RandomNumberGenerator.GetBytes(32))];
        Sealing = Opening[^1];
        Name = options.Name;
        Encrypt = options.Encrypt;
        ExpirySeconds = options.Expiry is TimeSpan expiry ? (long)Math.Ceiling(expiry.TotalSeconds) : 0;
        MaxCursorLength = options.MaxCursorLength;
        DefaultSize = options.DefaultSize;
        MaxSize = options.MaxSize;
        RefuseOversized = options.RefuseOversized;
        TotalCap = options.TotalCap;
    }

    public CursorSeal[] Opening { get; }

    public CursorSeal Sealing { get; }

    public string Name { get; }

    public bool Encrypt { get; }

    /// <summary>0: cursors are good for ever.</summary>
    public long ExpirySeconds { get; }

    public int MaxCursorLength { get; }

    public int DefaultSize { get; }

    public int MaxSize { get; }

    public bool RefuseOversized { get; }

    public int TotalCap { get; }

    public CursorSeal? Find(byte id)
    {
        foreach (CursorSeal seal in Opening)
        {
            if (seal.Id == id)
            {
                return seal;
            }
        }

        return null;
    }
}
