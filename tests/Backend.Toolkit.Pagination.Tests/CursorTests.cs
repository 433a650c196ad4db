using System.Buffers.Text;
using System.Globalization;
using System.Text;
using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class CursorTests
{
    private static readonly Keyset<Row> Newest = Keyset.For<Row>().Descending(row => row.D, "d").Unique(row => row.Id, "id");
    private static readonly Row Some = new() { Id = 42, D = new DateTime(2024, 5, 6, 7, 8, 9, DateTimeKind.Utc).AddTicks(1234567), S = "Grüße" };

    [Fact]
    public void Forty_bytes_of_keys_give_a_text_under_120_characters_that_is_safe_in_a_URL()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.G, "g").Ascending(row => row.D, "d").Unique(row => row.GuidId, "guid_id");

        string sealedText = Paginators.New(o => o.Expiry = TimeSpan.FromDays(1)).Seal(keyset, Some, PageDirection.Forward);

        sealedText.Length.Should().BeLessThan(120);
        sealedText.Should().MatchRegex("^[A-Za-z0-9_-]+$");
    }

    [Fact]
    public void The_same_position_has_the_same_cursor_in_every_process_with_the_key()
    {
        string one = Paginators.New().Seal(Newest, Some, PageDirection.Forward, "tenant 7");
        string other = Paginators.New().Seal(Newest, Some, PageDirection.Forward, "tenant 7");

        one.Should().Be(other);
        one.Should().Be("EAHi_gdp9kibbdxIKgAAAGSwgbFSLOmqJ0il2fzgUdE", "the format is a contract between versions");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_flipped_bit_is_refused(bool encrypt)
    {
        CursorPaginator paginator = Paginators.New(o => o.Encrypt = encrypt);
        byte[] bytes = Base64Url.DecodeFromChars(paginator.Seal(Newest, Some, PageDirection.Forward, "scope"));
        var accepted = new List<int>();

        for (int bit = 0; bit < 8 * bytes.Length; bit++)
        {
            byte[] flipped = [.. bytes];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            if (Refusal(() => paginator.Open(Newest, new PageRequest(Base64Url.EncodeToString(flipped)), "scope")) is null)
            {
                accepted.Add(bit);
            }
        }

        accepted.Should().BeEmpty();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Every_other_character_in_every_place_is_refused(int extraBytes)
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Unique(row => row.Id, "id");
        CursorPaginator paginator = Paginators.New();
        string cursor = paginator.Seal(keyset, new Row { S = new string('x', extraBytes) }, PageDirection.Forward);
        var accepted = new List<string>();

        for (int i = 0; i < cursor.Length; i++)
        {
            foreach (char other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_ =+/\n\0é".Where(other => other != cursor[i]))
            {
                string altered = cursor[..i] + other + cursor[(i + 1)..];
                accepted.AddRange(Refusal(() => paginator.Open(keyset, new PageRequest(altered))) is null ? [altered] : []);
            }

            string shortened = cursor[..i];
            accepted.AddRange(i > 0 && Refusal(() => paginator.Open(keyset, new PageRequest(shortened))) is null ? [shortened] : []);
        }

        foreach (string longer in new[] { cursor + "A", cursor + "AA", cursor + "=", cursor + "==", cursor + " ", " " + cursor, cursor + cursor })
        {
            accepted.AddRange(Refusal(() => paginator.Open(keyset, new PageRequest(longer))) is null ? [longer] : []);
        }

        accepted.Should().BeEmpty();
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void Whatever_comes_as_a_cursor_only_the_typed_refusal_comes_out(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            CursorPaginator paginator = Paginators.New(o => o.Expiry = TimeSpan.FromDays(1), new FakeTimeProvider(DateTimeOffset.UnixEpoch.AddYears(60)));
            string valid = paginator.Seal(Newest, Some, PageDirection.Forward);
            byte[] bytes = Base64Url.DecodeFromChars(valid);
            Gen<string> random = Gen.OneOf(
                Gen.String,
                Gen.Char["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"].Array[0, 100].Select(units => new string(units)),
                Gen.Select(Gen.Int[0, valid.Length - 1], Gen.Char).Select((at, unit) => valid[..at] + unit + valid[(at + 1)..]),
                Gen.Select(Gen.Int[0, valid.Length], Gen.Int[0, valid.Length]).Select((from, length) => valid.Substring(Math.Min(from, valid.Length - length), length)),
                Gen.Byte.Array[0, 80].Select(tail => Base64Url.EncodeToString([.. bytes.AsSpan(0, 4), .. tail])));

            random.Where(text => text != valid && text.Length > 0).Sample(text =>
            {
                Refusal(() => paginator.Open(Newest, new PageRequest(text))).Should().NotBeNull();
            }, iter: 100_000, threads: 1);

            paginator.Open(Newest, new PageRequest(valid)).PositionKey(0).Should().Be(Some.D);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void A_cursor_is_bound_to_keyset_and_scope()
    {
        CursorPaginator paginator = Paginators.New();
        string cursor = paginator.Seal(Newest, Some, PageDirection.Forward, "tenant 7");
        Keyset<Row> turned = Keyset.For<Row>().Ascending(row => row.D, "d").Unique(row => row.Id, "id", SortDirection.Descending);
        Keyset<Row> renamed = Keyset.For<Row>().Descending(row => row.D, "e").Unique(row => row.Id, "id");
        Keyset<Row> nullable = Keyset.For<Row>().Descending(row => row.ND, NullOrder.Last, "d").Unique(row => row.Id, "id");
        Keyset<Order> ofOthers = Keyset.For<Order>().Descending(row => row.Created, "d").Unique(row => row.Id, "id");

        InvalidCursorReason?[] reasons =
        [
            Refusal(() => paginator.Open(Newest, new PageRequest(cursor), "tenant 8")),
            Refusal(() => paginator.Open(Newest, new PageRequest(cursor))),
            Refusal(() => paginator.Open(turned, new PageRequest(cursor), "tenant 7")),
            Refusal(() => paginator.Open(renamed, new PageRequest(cursor), "tenant 7")),
            Refusal(() => paginator.Open(nullable, new PageRequest(cursor), "tenant 7")),
            Refusal(() => paginator.Open(ofOthers, new PageRequest(cursor), "tenant 7")),
        ];

        reasons.Should().OnlyContain(reason => reason == InvalidCursorReason.Foreign);
        paginator.Open(Newest, new PageRequest(cursor), "tenant 7").HasPosition.Should().BeTrue();
    }

    [Fact]
    public void Scopes_that_only_look_alike_when_written_together_are_different()
    {
        CursorPaginator paginator = Paginators.New();
        string[] scopes = ["", "a", "aa", "a\0", "\0a", "é", "e\u0301", "A"];

        string[] cursors = [.. scopes.Select(scope => paginator.Seal(Newest, Some, PageDirection.Forward, scope))];

        cursors.Should().OnlyHaveUniqueItems();
        paginator.Seal(Newest, Some, PageDirection.Forward, scope: null).Should().Be(cursors[0]);
    }

    [Fact]
    public void A_refusal_says_why()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UnixEpoch.AddYears(60));
        CursorPaginator paginator = Paginators.New(o => o.Expiry = TimeSpan.FromHours(8), time);
        string cursor = paginator.Seal(Newest, Some, PageDirection.Forward);
        string foreignKey = new CursorPaginator(WithKeys((9, 9))).Seal(Newest, Some, PageDirection.Forward);
        string otherSecret = new CursorPaginator(WithKeys((1, 9))).Seal(Newest, Some, PageDirection.Forward);
        byte[] bytes = Base64Url.DecodeFromChars(cursor);
        bytes[0] += 0x10;

        Refusal(() => paginator.Open(Newest, new PageRequest("no cursor"))).Should().Be(InvalidCursorReason.Malformed);
        Refusal(() => paginator.Open(Newest, new PageRequest(new string('A', 1_000_000)))).Should().Be(InvalidCursorReason.TooLong);
        Refusal(() => paginator.Open(Newest, new PageRequest(foreignKey))).Should().Be(InvalidCursorReason.UnknownKey);
        Refusal(() => paginator.Open(Newest, new PageRequest(otherSecret))).Should().Be(InvalidCursorReason.Altered);
        Refusal(() => paginator.Open(Newest, new PageRequest(Base64Url.EncodeToString(bytes)))).Should().Be(InvalidCursorReason.UnknownKey);
        Refusal(() => paginator.Open(Newest, new PageRequest(cursor))).Should().BeNull();
        time.Advance(TimeSpan.FromHours(9).Add(TimeSpan.FromSeconds(1)));
        Refusal(() => paginator.Open(Newest, new PageRequest(cursor))).Should().Be(InvalidCursorReason.Expired);
    }

    [Fact]
    public void A_cursor_lives_at_least_as_long_as_told_and_an_eighth_more_at_most()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UnixEpoch.AddYears(60).AddSeconds(1234));
        CursorPaginator paginator = Paginators.New(o => o.Expiry = TimeSpan.FromHours(8), time);
        var cursors = new HashSet<string>();
        for (int minute = 0; minute < 480; minute++)
        {
            cursors.Add(paginator.Seal(Newest, Some, PageDirection.Forward));
            time.Advance(TimeSpan.FromMinutes(1));
        }

        int[] valid = [.. cursors.Select(cursor => Refusal(() => paginator.Open(Newest, new PageRequest(cursor))) is null ? 1 : 0)];

        cursors.Should().HaveCountLessThanOrEqualTo(9, "a page gives the same cursor for an hour");
        valid.Should().OnlyContain(isValid => isValid == 1, "the oldest was given eight hours ago");
        time.Advance(TimeSpan.FromHours(9));
        cursors.Should().OnlyContain(cursor => Refusal(() => paginator.Open(Newest, new PageRequest(cursor))) == InvalidCursorReason.Expired);
    }

    [Fact]
    public void Keys_rotate_without_refusing_anybody()
    {
        CursorPaginator paginator = new(WithKeys((1, 1)));
        string old = paginator.Seal(Newest, Some, PageDirection.Forward);

        paginator.Update(WithKeys((2, 2), (1, 1)));
        string stillOld = paginator.Seal(Newest, Some, PageDirection.Forward);
        paginator.Update(WithKeys((1, 1), (2, 2)));
        string renewed = paginator.Seal(Newest, Some, PageDirection.Forward);
        InvalidCursorReason? whileBoth = Refusal(() => paginator.Open(Newest, new PageRequest(old)));
        paginator.Update(WithKeys((2, 2)));

        stillOld.Should().Be(old);
        renewed.Should().NotBe(old);
        whileBoth.Should().BeNull();
        Refusal(() => paginator.Open(Newest, new PageRequest(renewed))).Should().BeNull();
        Refusal(() => paginator.Open(Newest, new PageRequest(old))).Should().Be(InvalidCursorReason.UnknownKey);
    }

    [Fact]
    public async Task Threads_seal_and_open_while_keys_rotate()
    {
        CursorPaginator paginator = new(WithKeys((1, 1), (2, 2)));
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Unique(row => row.Id, "id");

        IEnumerable<Task> threads = Enumerable.Range(0, 4).Select(thread => Task.Run(() =>
        {
            for (int i = 0; i < 2000; i++)
            {
                if (thread == 0)
                {
                    paginator.Update(i % 2 == 0 ? WithKeys((2, 2), (1, 1)) : WithKeys((1, 1), (2, 2)));
                }

                string text = new((char)('a' + thread), i % 700);
                KeysetRequest<Row> opened = paginator.Open(keyset, new PageRequest(paginator.Seal(keyset, new Row { S = text, Id = i }, PageDirection.Forward, text)), text);
                (opened.PositionKey<string>(0), opened.PositionKey<int>(1)).Should().Be((text, i));
            }
        }));

        await Task.WhenAll(threads);
    }

    [Fact]
    public void An_encrypted_cursor_hides_the_keys_and_is_the_same_for_the_same_position()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Unique(row => row.Id, "id");
        CursorPaginator paginator = Paginators.New(o => o.Encrypt = true);
        CursorPaginator plain = Paginators.New();
        var row = new Row { Id = 7, S = "a secret name of more than one block, of more than two blocks even" };

        string cursor = paginator.Seal(keyset, row, PageDirection.Forward);

        Encoding.Latin1.GetString(Base64Url.DecodeFromChars(plain.Seal(keyset, row, PageDirection.Forward))).Should().Contain("secret name");
        Encoding.Latin1.GetString(Base64Url.DecodeFromChars(cursor)).Should().NotContainAny("secr", "name", "more", "bloc", "even");
        paginator.Seal(keyset, row, PageDirection.Forward).Should().Be(cursor);
        paginator.Open(keyset, new PageRequest(cursor)).PositionKey(0).Should().Be(row.S);
        plain.Open(keyset, new PageRequest(cursor)).PositionKey(1).Should().Be(7, "the option may be turned without refusing anybody");
    }

    [Fact]
    public void The_format_of_an_encrypted_cursor_is_a_contract_between_versions()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Unique(row => row.Id, "id");
        CursorPaginator paginator = Paginators.New(o => o.Encrypt = true);

        string cursor = paginator.Seal(keyset, new Row { Id = 7, S = new string('x', 80) }, PageDirection.Forward, "tenant 7");

        cursor.Should().Be("GAEhRSI7w8D3uV-iO9Q71CyWl7aq0pHLOq8DIxreBicPZDmEk4KD0SDucQWZ9tXuC47ORymC3e9Fym_pjX9qWQoivDXO18FBsYzm6SmzvMDZBWqALFqYtucsml-FBrtxFjXTBnoJBku8yQ");
        Base64Url.DecodeFromChars(cursor).AsSpan(6, 64).ToArray().Chunk(32).Select(Convert.ToHexString).Should().OnlyHaveUniqueItems("each block has a stream of its own");
    }

    [Fact]
    public void Encrypted_cursors_share_no_stream()
    {
        CursorPaginator paginator = Paginators.New(o => o.Encrypt = true);
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.L, "l").Unique(row => row.Id, "id");
        byte[][] cursors = [.. Enumerable.Range(0, 64).Select(i => Base64Url.DecodeFromChars(paginator.Seal(keyset, new Row { L = i, Id = 1 }, PageDirection.Forward)))];

        int distinct = cursors.Select(cursor => Convert.ToHexString(cursor.AsSpan(4, 12))).Distinct().Count();
        int sameTail = cursors.Select(cursor => Convert.ToHexString(cursor.AsSpan(12, 4))).Distinct().Count();

        distinct.Should().Be(64);
        sameTail.Should().BeGreaterThan(60, "equal plain bytes are hidden by different streams");
    }

    [Fact]
    public void A_key_that_is_too_long_is_an_error_that_names_the_column()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.I, "i").Ascending(row => row.S, "title").Unique(row => row.Id, "id");
        CursorPaginator paginator = Paginators.New();
        string longest = new('x', 3042);

        string fits = paginator.Seal(keyset, new Row { S = longest }, PageDirection.Forward);
        Action tooLong = () => paginator.Seal(keyset, new Row { S = longest + "x" }, PageDirection.Forward);

        fits.Length.Should().Be(4096);
        paginator.Open(keyset, new PageRequest(fits)).PositionKey(1).Should().Be(longest);
        tooLong.Should().Throw<KeyTooLongException>().WithMessage("*column title*4096*").Which.Column.Should().Be("title");
    }

    [Theory]
    [InlineData(0, 20)]
    [InlineData(1, 1)]
    [InlineData(100, 100)]
    [InlineData(101, 100)]
    [InlineData(int.MaxValue, 100)]
    public void A_size_is_coerced_to_what_is_given(int asked, int given)
    {
        KeysetRequest<Row> request = Paginators.New().Open(Newest, new PageRequest(null, asked));

        request.Size.Should().Be(given);
    }

    [Theory]
    [InlineData(-1, false)]
    [InlineData(int.MinValue, false)]
    [InlineData(101, true)]
    [InlineData(int.MaxValue, true)]
    public void A_size_that_makes_no_sense_is_refused(int asked, bool refuseOversized)
    {
        CursorPaginator paginator = Paginators.New(o => o.RefuseOversized = refuseOversized);

        Action open = () => paginator.Open(Newest, new PageRequest(null, asked));

        open.Should().Throw<InvalidPageSizeException>().Which.Should().Match<InvalidPageSizeException>(it => it.Size == asked && it.MaxSize == 100);
    }

    [Fact]
    public void The_direction_is_the_cursors_unless_another_is_asked_for()
    {
        CursorPaginator paginator = Paginators.New();
        string next = paginator.Seal(Newest, Some, PageDirection.Forward);
        string previous = paginator.Seal(Newest, Some, PageDirection.Backward);

        paginator.Open(Newest, new PageRequest(next)).Should().Match<KeysetRequest<Row>>(it => it.Direction == PageDirection.Forward && !it.IncludesPosition);
        paginator.Open(Newest, new PageRequest(previous)).Should().Match<KeysetRequest<Row>>(it => it.Direction == PageDirection.Backward && !it.IncludesPosition);
        paginator.Open(Newest, new PageRequest(next, Direction: PageDirection.Backward)).Should().Match<KeysetRequest<Row>>(it => it.Direction == PageDirection.Backward && it.IncludesPosition);
        paginator.Open(Newest, new PageRequest(previous, Direction: PageDirection.Forward)).Should().Match<KeysetRequest<Row>>(it => it.Direction == PageDirection.Forward && it.IncludesPosition);
    }

    private static CursorPaginatorOptions WithKeys(params (int Id, byte Seed)[] keys)
    {
        var options = new CursorPaginatorOptions();
        foreach ((int id, byte seed) in keys)
        {
            options.Keys.Add(new CursorKey(id, Paginators.Secret(seed)));
        }

        return options;
    }

    private static InvalidCursorReason? Refusal(Action open)
    {
        try
        {
            open();
            return null;
        }
        catch (InvalidCursorException exception)
        {
            return exception.Reason;
        }
    }
}
