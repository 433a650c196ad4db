using System.Buffers;
using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks;

/// <summary>The raw bytes, in one piece or in several.</summary>
internal readonly ref struct WebhookBody
{
    private readonly ReadOnlySpan<byte> _whole;
    private readonly ReadOnlySequence<byte> _pieces;

    public WebhookBody(ReadOnlySpan<byte> whole) => _whole = whole;

    public WebhookBody(in ReadOnlySequence<byte> pieces)
    {
        if (pieces.IsSingleSegment)
        {
            _whole = pieces.FirstSpan;
        }
        else
        {
            _pieces = pieces;
        }
    }

    public long Length => _whole.Length + _pieces.Length;

    public void AppendTo(IncrementalHash hash)
    {
        hash.AppendData(_whole);
        if (!_pieces.IsEmpty)
        {
            foreach (ReadOnlyMemory<byte> piece in _pieces)
            {
                hash.AppendData(piece.Span);
            }
        }
    }

    public void AppendTo(WebhookState state)
    {
        state.Buffer(_whole);
        if (!_pieces.IsEmpty)
        {
            foreach (ReadOnlyMemory<byte> piece in _pieces)
            {
                state.Buffer(piece.Span);
            }
        }
    }
}
