using System.Buffers;
using System.Numerics;
using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// What one verification or one signing works with: a keyed hash for each secret, reset and never keyed again, and room for the headers. Used by one caller at a time. A public-key signature is of
/// the whole message, so that is put together in a rented buffer, but only when a key and a signature ask for it.
/// </summary>
internal sealed class WebhookState(WebhookKeyRing ring) : IDisposable
{
    private readonly IncrementalHash?[] _hashes = new IncrementalHash?[ring.Count];
    private readonly byte[] _prefix = new byte[WebhookLayout.MostPrefixBytes];
    private readonly byte[] _macs = new byte[WebhookLayout.MostSignatures * WebhookLayout.MacBytes];
    private byte[]? _publicSignatures;
    private char[]? _text;
    private byte[]? _message;
    private int _messageLength;
    private int _prefixLength;
    private int _macCount;
    private int _publicCount;
    private int _version;
    private uint _inForce;
    private uint _begun;
    private string? _id;
    private long _timestamp;

    public WebhookKeyRing Ring => ring;

    /// <summary>Changes when a session ends, so that an old handle is told from a new one.</summary>
    public int Version => Volatile.Read(ref _version);

    /// <summary>Ends the session that has this version. Of two that end it at once, one: the state must not go back twice, and so to two callers.</summary>
    public bool End(int version) => Interlocked.CompareExchange(ref _version, version + 1, version) == version;

    /// <summary>Reads the headers. Valid: the body decides.</summary>
    public WebhookVerification Open(string? id, string? timestamp, string? signatures, TimeProvider time)
    {
        WebhookLayout layout = ring.Layout;
        WebhookScheme scheme = layout.Scheme;
        if (string.IsNullOrEmpty(signatures) || (layout.SignsId && string.IsNullOrEmpty(id)) || (scheme.TimestampHeader is not null && string.IsNullOrEmpty(timestamp)))
        {
            return WebhookVerification.MissingHeader;
        }

        if (signatures.Length > WebhookLayout.MostHeaderLength || id?.Length > WebhookLayout.MostHeaderLength || timestamp?.Length > WebhookLayout.MostHeaderLength)
        {
            return WebhookVerification.HeaderTooLarge;
        }

        _id = string.IsNullOrEmpty(id) ? null : id;
        if (_id is not null && !layout.IsId(_id))
        {
            return WebhookVerification.Malformed;
        }

        WebhookVerification read = ReadSignatures(signatures, out ReadOnlySpan<char> entry);
        if (read != WebhookVerification.Valid)
        {
            return read;
        }

        ReadOnlySpan<char> seconds = scheme.TimestampPrefix is null ? timestamp : entry;
        DateTimeOffset now = ring.NeedsTime ? time.GetUtcNow() : default;
        if (layout.HasTimestamp)
        {
            if (!WebhookLayout.TryReadTimestamp(seconds, out _timestamp))
            {
                return WebhookVerification.Malformed;
            }

            WebhookVerification inTime = InTime(now);
            if (inTime != WebhookVerification.Valid)
            {
                return inTime;
            }
        }

        _inForce = ring.InForce(now);
        if (_inForce == 0)
        {
            return WebhookVerification.NoKeyInForce;
        }

        _prefixLength = layout.WritePrefix(_prefix, _id, seconds);
        return WebhookVerification.Valid;
    }

    /// <summary>Judges the timestamp again, when the body has come: one that comes slowly enough would otherwise be accepted after a guard has forgotten it.</summary>
    public WebhookVerification StillInTime(TimeProvider time) => ring.Layout.HasTimestamp ? InTime(time.GetUtcNow()) : WebhookVerification.Valid;

    /// <summary>Under one key after the other, until one fits.</summary>
    public bool Check(in WebhookBody body, Span<byte> firstMac)
    {
        bool valid = false, isFirst = true;
        Span<byte> mac = stackalloc byte[WebhookLayout.MacBytes];
        for (uint rest = _inForce; rest != 0 && !valid; rest &= rest - 1)
        {
            int key = BitOperations.TrailingZeroCount(rest);
            if (ring.Public(key) is { } publicKey)
            {
                // What fits into no buffer is under no signature of a public key; it may be under a MAC.
                if (_publicCount > 0 && _prefixLength + body.Length <= Array.MaxLength)
                {
                    if (_messageLength == 0)
                    {
                        BufferPrefix(body.Length);
                        body.AppendTo(this);
                    }

                    valid = HasPublic(publicKey);
                }
            }
            else if (_macCount > 0)
            {
                IncrementalHash hash = Begin(key);
                body.AppendTo(hash);
                End(key, mac);
                valid = Has(mac);
                if (isFirst)
                {
                    mac.CopyTo(firstMac);
                    isFirst = false;
                }
            }
        }

        return valid;
    }

    /// <summary>Prepares all keys for a body that comes in pieces.</summary>
    public void BeginAll()
    {
        for (uint rest = _inForce; rest != 0; rest &= rest - 1)
        {
            int key = BitOperations.TrailingZeroCount(rest);
            if (ring.Public(key) is null)
            {
                if (_macCount > 0)
                {
                    Begin(key);
                }
            }
            else if (_publicCount > 0 && _messageLength == 0)
            {
                BufferPrefix(0);
            }
        }
    }

    public void AppendAll(ReadOnlySpan<byte> piece)
    {
        for (uint rest = _begun; rest != 0; rest &= rest - 1)
        {
            _hashes[BitOperations.TrailingZeroCount(rest)]!.AppendData(piece);
        }

        if (_messageLength > 0)
        {
            Buffer(piece);
        }
    }

    public bool CheckAll(Span<byte> firstMac)
    {
        bool valid = false, isFirst = true;
        Span<byte> mac = stackalloc byte[WebhookLayout.MacBytes];
        for (uint rest = _begun; rest != 0; rest &= rest - 1)
        {
            End(BitOperations.TrailingZeroCount(rest), mac);
            valid |= Has(mac);
            if (isFirst)
            {
                mac.CopyTo(firstMac);
                isFirst = false;
            }
        }

        for (uint rest = _messageLength > 0 ? _inForce : 0; rest != 0 && !valid; rest &= rest - 1)
        {
            valid = ring.Public(BitOperations.TrailingZeroCount(rest)) is { } key && HasPublic(key);
        }

        return valid;
    }

    public WebhookMessage Message(ReadOnlySpan<byte> firstMac) => new(ring, _id, _timestamp, firstMac);

    /// <summary>Signs under the keys in force; the header's text is in the state until it is returned.</summary>
    public ReadOnlySpan<char> Sign(string? id, ReadOnlySpan<char> seconds, uint inForce, in WebhookBody body)
    {
        WebhookLayout layout = ring.Layout;
        WebhookScheme scheme = layout.Scheme;
        Span<char> text = _text ??= new char[WebhookLayout.MostHeaderLength];
        int length = 0;
        _prefixLength = layout.WritePrefix(_prefix, id, seconds);
        if (scheme.TimestampPrefix is { } timestampPrefix)
        {
            Add(timestampPrefix, text, ref length);
            Add(seconds, text, ref length);
        }

        Span<byte> signature = stackalloc byte[WebhookPublicKey.SignatureBytes];
        for (uint rest = inForce; rest != 0; rest &= rest - 1)
        {
            int key = BitOperations.TrailingZeroCount(rest);
            int bytes = WebhookLayout.MacBytes;
            string prefix = scheme.SignaturePrefix;
            if (ring.Public(key) is { } publicKey)
            {
                if (_messageLength == 0)
                {
                    BufferPrefix(body.Length);
                    body.AppendTo(this);
                }

                publicKey.Sign(_message.AsSpan(0, _messageLength), signature);
                bytes = WebhookPublicKey.SignatureBytes;
                prefix = scheme.PublicKeySignaturePrefix!;
            }
            else
            {
                body.AppendTo(Begin(key));
                End(key, signature[..bytes]);
            }

            if (length > 0)
            {
                text[length++] = scheme.Separator!.Value;
            }

            Add(prefix, text, ref length);
            length += layout.Encode(signature[..bytes], text[length..]);
            if (scheme.Separator is null)
            {
                break;
            }
        }

        return text[..length];
    }

    /// <summary>Gives the state back. A hash that somebody left half-way is emptied first.</summary>
    public void Return()
    {
        Span<byte> unused = stackalloc byte[WebhookLayout.MacBytes];
        for (; _begun != 0; _begun &= _begun - 1)
        {
            _hashes[BitOperations.TrailingZeroCount(_begun)]!.GetHashAndReset(unused);
        }

        DropMessage();
        _macCount = _publicCount = 0;
        _inForce = 0;
        _id = null;
        _timestamp = 0;
        ring.Pool.Return(this);
    }

    public void Dispose()
    {
        foreach (IncrementalHash? hash in _hashes)
        {
            hash?.Dispose();
        }
    }

    /// <summary>Adds a piece to the whole message.</summary>
    internal void Buffer(ReadOnlySpan<byte> piece)
    {
        int needed = (int)Math.Min((long)_messageLength + piece.Length, int.MaxValue);
        if (needed > Array.MaxLength)
        {
            DropMessage();
            return;
        }

        if (needed > _message!.Length)
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent((int)Math.Min(Array.MaxLength, Math.Max(needed, 2L * _message.Length)));
            _message.AsSpan(0, _messageLength).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_message);
            _message = larger;
        }

        piece.CopyTo(_message.AsSpan(_messageLength));
        _messageLength = needed;
    }

    private WebhookVerification InTime(DateTimeOffset now)
    {
        // Neither is negative, so the difference fits.
        long age = Math.Max(0, now.ToUnixTimeSeconds()) - _timestamp;
        return age > ring.Tolerance ? WebhookVerification.Stale : age < -ring.Tolerance ? WebhookVerification.FromFuture : WebhookVerification.Valid;
    }

    private static void Add(ReadOnlySpan<char> piece, Span<char> text, ref int length)
    {
        piece.CopyTo(text[length..]);
        length += piece.Length;
    }

    private void DropMessage()
    {
        if (_message is not null)
        {
            ArrayPool<byte>.Shared.Return(_message);
            _message = null;
        }

        _messageLength = 0;
    }

    private void BufferPrefix(long more)
    {
        _message = ArrayPool<byte>.Shared.Rent(checked((int)(_prefixLength + more)));
        Buffer(_prefix.AsSpan(0, _prefixLength));
    }

    private IncrementalHash Begin(int key)
    {
        IncrementalHash hash = _hashes[key] ??= ring.NewHash(key);
        _begun |= 1u << key;
        hash.AppendData(_prefix, 0, _prefixLength);
        return hash;
    }

    private void End(int key, Span<byte> mac)
    {
        _hashes[key]!.GetHashAndReset(mac);
        _begun &= ~(1u << key);
    }

    /// <summary>All are compared: how long it takes says nothing of which one fits.</summary>
    private bool Has(ReadOnlySpan<byte> mac)
    {
        bool found = false;
        for (int i = 0; i < _macCount; i++)
        {
            found |= CryptographicOperations.FixedTimeEquals(mac, _macs.AsSpan(i * WebhookLayout.MacBytes, WebhookLayout.MacBytes));
        }

        return found;
    }

    private bool HasPublic(WebhookPublicKey key)
    {
        for (int i = 0; i < _publicCount; i++)
        {
            if (key.Verify(_message.AsSpan(0, _messageLength), _publicSignatures.AsSpan(i * WebhookPublicKey.SignatureBytes, WebhookPublicKey.SignatureBytes)))
            {
                return true;
            }
        }

        return false;
    }

    private WebhookVerification ReadSignatures(ReadOnlySpan<char> header, out ReadOnlySpan<char> timestamp)
    {
        WebhookScheme scheme = ring.Layout.Scheme;
        timestamp = default;
        if (scheme.Separator is not { } separator)
        {
            ReadSignature(header);
        }
        else
        {
            int entries = 0;
            bool hasTimestamp = false;
            while (!header.IsEmpty)
            {
                int end = header.IndexOf(separator);
                ReadOnlySpan<char> entry = (end < 0 ? header : header[..end]).Trim(" \t");
                header = end < 0 ? default : header[(end + 1)..];
                if (entry.IsEmpty)
                {
                    continue;
                }

                if (scheme.TimestampPrefix is { } prefix && entry.StartsWith(prefix, StringComparison.Ordinal))
                {
                    // Two timestamps, of which one is signed and the other is looked at, are a forgery.
                    if (hasTimestamp)
                    {
                        return WebhookVerification.Malformed;
                    }

                    hasTimestamp = true;
                    timestamp = entry[prefix.Length..];
                }
                else if (++entries > WebhookLayout.MostSignatures || !ReadSignature(entry))
                {
                    return WebhookVerification.HeaderTooLarge;
                }
            }
        }

        return _macCount + _publicCount > 0 ? WebhookVerification.Valid : WebhookVerification.Malformed;
    }

    /// <summary>Keeps a well-formed signature and passes over any other; false: there are too many of a public key.</summary>
    private bool ReadSignature(ReadOnlySpan<char> entry)
    {
        WebhookLayout layout = ring.Layout;
        if (entry.StartsWith(layout.Scheme.SignaturePrefix, StringComparison.Ordinal))
        {
            _macCount += layout.TryDecode(entry[layout.Scheme.SignaturePrefix.Length..], _macs.AsSpan(_macCount * WebhookLayout.MacBytes, WebhookLayout.MacBytes)) ? 1 : 0;
        }
        else if (layout.Scheme.PublicKeySignaturePrefix is { } prefix && entry.StartsWith(prefix, StringComparison.Ordinal) && entry.Length == prefix.Length + 88)
        {
            if (_publicCount == WebhookLayout.MostPublicSignatures)
            {
                // Nobody verifies them without a public key: then they are no more than unknown ones.
                return !ring.HasPublic;
            }

            _publicSignatures ??= new byte[WebhookLayout.MostPublicSignatures * WebhookPublicKey.SignatureBytes];
            _publicCount += layout.TryDecode(entry[prefix.Length..], _publicSignatures.AsSpan(_publicCount * WebhookPublicKey.SignatureBytes, WebhookPublicKey.SignatureBytes)) ? 1 : 0;
        }

        return true;
    }
}
