namespace Worker.Tests;

/// <summary>What the queue promises, and what it does not.</summary>
public sealed class MessageQueueTests : IDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(10);

    private readonly DataFolder _folder = new(null);
    private readonly MessageQueue _queue;

    public MessageQueueTests() => _queue = new MessageQueue(Path.Combine(_folder.Path, "queue.db"));

    [Fact]
    public async Task A_message_is_hidden_while_it_is_in_hand()
    {
        await PublishAsync("one");

        Delivery? first = await _queue.ReceiveAsync(Long);
        Delivery? second = await _queue.ReceiveAsync(Long);

        first!.Id.Should().Be("one");
        first.Count.Should().Be(1);
        second.Should().BeNull();
        (await _queue.CountAsync()).Should().Be(1);
    }

    [Fact]
    public async Task A_message_that_is_not_completed_in_time_comes_again_and_only_its_last_delivery_ends_it()
    {
        await PublishAsync("one");
        Delivery late = (await _queue.ReceiveAsync(TimeSpan.FromMilliseconds(1)))!;
        Delivery? again = null;
        await RealTime.UntilAsync(async () => (again = await _queue.ReceiveAsync(Long)) is not null, "the message comes again");

        bool completedLate = await _queue.CompleteAsync(late);
        bool givenBackLate = await _queue.GiveBackAsync(late, TimeSpan.Zero, counts: false);
        await _queue.BuryAsync(late, "late");
        long left = await _queue.CountAsync();
        bool completed = await _queue.CompleteAsync(again!);

        again!.Count.Should().Be(2);
        (completedLate, givenBackLate, left, completed).Should().Be((false, false, 1, true));
        (await _queue.CountAsync()).Should().Be(0);
        (await _queue.DeadLettersAsync()).Should().BeEmpty();
    }

    [Fact]
    public async Task What_is_given_back_goes_behind_those_that_wait_and_counts_when_it_should()
    {
        await PublishAsync("one", "two");
        Delivery one = (await _queue.ReceiveAsync(Long))!;

        await _queue.GiveBackAsync(one, TimeSpan.Zero, counts: false);
        Delivery two = (await _queue.ReceiveAsync(Long))!;
        await _queue.GiveBackAsync(two, TimeSpan.Zero, counts: true);
        Delivery? oneAgain = null, twoAgain = null;
        await RealTime.UntilAsync(async () => (oneAgain ??= await _queue.ReceiveAsync(Long)) is not null, "the first comes again");
        await RealTime.UntilAsync(async () => (twoAgain ??= await _queue.ReceiveAsync(Long)) is not null, "the second comes again");

        (two.Id, oneAgain!.Id, twoAgain!.Id).Should().Be(("two", "one", "two"));
        (oneAgain.Count, twoAgain.Count).Should().Be((1, 2));
        oneAgain.Receipt.Should().Be(2, "a receipt is never given twice");
    }

    [Fact]
    public async Task A_message_that_is_buried_is_a_dead_letter_with_its_reason()
    {
        await PublishAsync("one");

        await _queue.BuryAsync((await _queue.ReceiveAsync(Long))!, "no such number");

        (await _queue.CountAsync()).Should().Be(0);
        (await _queue.DeadLettersAsync()).Should().Equal(new DeadLetter("one", "no such number"));
    }

    [Fact]
    public async Task Many_who_take_at_once_take_each_message_once()
    {
        string[] ids = [.. Enumerable.Range(0, 200).Select(i => $"{i}")];
        await PublishAsync(ids);

        Delivery[][] taken = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            List<Delivery> mine = [];
            while (await _queue.ReceiveAsync(Long) is { } delivery)
            {
                mine.Add(delivery);
            }

            return mine.ToArray();
        })));

        taken.SelectMany(mine => mine).Select(delivery => delivery.Id).Should().BeEquivalentTo(ids);
    }

    public void Dispose() => _folder.Dispose();

    private Task PublishAsync(params string[] ids) => _queue.PublishAsync(ids.Select(id => (id, "body"u8.ToArray())));
}
