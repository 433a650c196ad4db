using System.Text.Json;
using Backend.Toolkit.TimeoutBudgets;

namespace Worker.Tests;

/// <summary>Each message is sent once, or is a dead letter, whatever the queue and the provider do.</summary>
public sealed class DeliveryTests : IDisposable
{
    private readonly DataFolder _folder = new(null);

    [Fact]
    public async Task A_message_that_is_published_three_times_is_sent_once()
    {
        Reminder[] reminders = RunningWorker.Reminders(40);
        await using var worker = new RunningWorker(_folder.Path);
        await worker.PublishAsync([.. reminders, .. reminders, .. Enumerable.Reverse(reminders)]);

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        worker.Provider.Calls.Should().Be(40, "the provider is not even asked again");
        worker.Consumer.Completed.Should().Be(120);
        (await worker.Provider.SentAsync()).Should().BeEquivalentTo(reminders);
    }

    [Fact]
    public async Task A_message_that_was_sent_and_not_completed_is_not_sent_again_when_it_comes_again()
    {
        Reminder[] reminders = RunningWorker.Reminders(1);
        await using (var dying = new RunningWorker(_folder.Path))
        {
            await dying.PublishAsync(reminders);
            await dying.Sender.SendAsync((await dying.Queue.ReceiveAsync(TimeSpan.FromMilliseconds(1)))!, CancellationToken.None);
        }

        await using var worker = new RunningWorker(_folder.Path);
        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        worker.Provider.Calls.Should().Be(0);
        worker.Consumer.Completed.Should().Be(1);
        (await worker.Provider.SentAsync()).Should().Equal(reminders);
    }

    [Fact]
    public async Task The_provider_is_never_asked_more_often_than_it_allows()
    {
        await using var worker = new RunningWorker(_folder.Path, "--Worker:Consumers=8");
        await worker.PublishAsync(RunningWorker.Reminders(150));

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        worker.Provider.Calls.Should().Be(150);
        worker.Provider.Throttled.Should().Be(0);
        worker.Provider.Busiest.Should().BeInRange(1, SmsProvider.CallsPerSecond);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_outage_opens_the_circuit_and_the_messages_wait_for_its_end(bool hangs)
    {
        Reminder[] reminders = RunningWorker.Reminders(30);
        await using var worker = new RunningWorker(_folder.Path);
        await worker.PublishAsync(reminders);
        worker.Provider.Fault = hangs ? Fault.Hanging : Fault.Failing;

        await worker.StartAsync();
        await RealTime.UntilAsync(() => worker.Openings >= 3, "the circuit opens, and two probes fail");
        int openings = worker.Openings, calls = worker.Provider.Calls;
        worker.Provider.Fault = Fault.None;
        await worker.UntilEmptyAsync();

        calls.Should().BeLessThanOrEqualTo(5 + 3 + openings, "five failures open the circuit, three more may be on their way, and each break ends with one probe");
        worker.Consumer.Pauses.Should().BePositive();
        worker.Consumer.Failed.Should().BeLessThanOrEqualTo(1, "what fails while the circuit is open says nothing about the message");
        (await worker.Queue.DeadLettersAsync()).Should().BeEmpty();
        (await worker.Provider.SentAsync()).Should().BeEquivalentTo(reminders);
    }

    [Fact]
    public async Task A_call_that_hangs_is_cut_before_the_queue_delivers_the_message_again()
    {
        await using var worker = new RunningWorker(
            _folder.Path, "--Worker:Visibility=00:00:02", "--Worker:RedeliveryDelay=00:00:05", "--Worker:Consumers=1", "--TimeoutBudgets:attempt:Total=00:10:00");
        await worker.PublishAsync(RunningWorker.Reminders(1));
        worker.Provider.Fault = Fault.Hanging;

        await worker.StartAsync();
        await RealTime.UntilAsync(() => worker.Consumer.Failed == 1, "the budget of the message ends");
        worker.Provider.Fault = Fault.None;
        await worker.UntilEmptyAsync();

        worker.Provider.Calls.Should().Be(2);
        worker.Openings.Should().Be(0, "the end of the message's own budget is not the provider's failure");
        (await worker.Provider.SentAsync()).Should().HaveCount(1);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(1)]
    public async Task A_text_whose_answer_is_lost_is_asked_for_again_under_the_same_key_by_a_retry_or_by_the_next_delivery(int attempts)
    {
        await using var worker = new RunningWorker(_folder.Path, $"--RetryPolicies:sms:MaxAttempts={attempts}");
        await worker.PublishAsync(RunningWorker.Reminders(1));
        worker.Provider.Fault = Fault.Silent;

        await worker.StartAsync();
        await RealTime.UntilAsync(async () => (await worker.Provider.SentAsync()).Count == 1, "the text is sent");
        worker.Provider.Fault = Fault.None;
        await worker.UntilEmptyAsync();

        worker.Provider.Repeats.Should().BePositive();
        (await worker.Provider.SentAsync()).Should().HaveCount(1);
    }

    [Fact]
    public async Task What_cannot_be_sent_is_a_dead_letter_and_holds_up_nobody()
    {
        Reminder[] reminders = RunningWorker.Reminders(20);
        await using var worker = new RunningWorker(_folder.Path, "--Worker:RedeliveryDelay=00:00:00.05", "--Worker:MaxDeliveries=3");
        await worker.PublishAsync([new Reminder("+poison", "\0"), new Reminder("none", "Hello"), .. reminders]);
        await worker.Queue.PublishAsync([("unreadable", "}"u8.ToArray())]);

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        List<DeadLetter> dead = await worker.Queue.DeadLettersAsync();
        dead.Select(letter => letter.Id).Should().Equal("message +poison", "message none", "unreadable");
        dead.Select(letter => letter.Reason.Split(':')[0]).Should().StartWith(["500", "400"]);
        worker.Consumer.Failed.Should().Be(3, "a text that breaks the provider has three deliveries, a number that is refused and a body that is none only one");
        worker.Openings.Should().Be(0);
        (await worker.Provider.SentAsync()).Should().BeEquivalentTo(reminders);
    }

    [Fact]
    public async Task Messages_that_nobody_could_send_are_dead_letters_at_once_and_never_look_like_an_outage()
    {
        Reminder[] reminders = RunningWorker.Reminders(20);
        (byte[] Body, string Reason)[] bad =
        [
            .. Enumerable.Repeat(("{}"u8.ToArray(), "The message has no number."), 10),
            ("""{"Number":"+1"}"""u8.ToArray(), "The message has no text."),
            ("""{"Number":null,"Text":"Hello"}"""u8.ToArray(), "The message has no number."),
            ("null"u8.ToArray(), "The message is null."),
            ("}"u8.ToArray(), "The message cannot be read: "),
            ([], "The message cannot be read: "),
            ("""{"Number":"+1","Text":7}"""u8.ToArray(), "The message cannot be read: "),
            ([.. """{"Number":"+1","Text":"""u8, (byte)'"', 0xFF, (byte)'"', (byte)'}'], "The message cannot be read: "),
        ];
        await using var worker = new RunningWorker(_folder.Path);
        for (int i = 0; i < reminders.Length; i++)
        {
            await worker.Queue.PublishAsync(bad.Skip(i).Take(1).Select(message => ($"{i:00}", message.Body)));
            await worker.PublishAsync(reminders[i]);
        }

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        DeadLetter[] dead = [.. (await worker.Queue.DeadLettersAsync()).OrderBy(letter => letter.Id, StringComparer.Ordinal)];
        dead.Select(letter => letter.Id).Should().Equal(bad.Select((_, i) => $"{i:00}"));
        dead.Zip(bad).Should().OnlyContain(pair => pair.First.Reason.StartsWith(pair.Second.Reason, StringComparison.Ordinal));
        worker.Openings.Should().Be(0);
        worker.Provider.Calls.Should().Be(reminders.Length, "the provider is asked for nothing that cannot be sent");
        worker.Consumer.Failed.Should().Be(0);
        (await worker.Provider.SentAsync()).Should().BeEquivalentTo(reminders);
    }

    [Fact]
    public async Task Only_what_the_provider_answers_or_does_not_answer_is_its_failure()
    {
        await using var worker = new RunningWorker(_folder.Path);

        bool[] provider = [.. new Exception[] { new SmsFailedException(503, ""), new SmsFailedException(429, ""), new TimeoutBudgetExceededException("attempt", TimeSpan.Zero, TimeSpan.Zero) }.Select(worker.Circuit.IsFailure!)];
        bool[] others = [.. new Exception[] { new SmsFailedException(500, ""), new SmsRefusedException(""), new JsonException(), new InvalidOperationException() }.Select(worker.Circuit.IsFailure!)];

        provider.Should().OnlyContain(isFailure => isFailure);
        others.Should().OnlyContain(isFailure => !isFailure);
    }

    [Fact]
    public async Task A_message_that_kills_whoever_takes_it_is_a_dead_letter_after_its_deliveries()
    {
        await using var worker = new RunningWorker(_folder.Path, "--Worker:MaxDeliveries=3");
        await worker.PublishAsync(RunningWorker.Reminders(1));
        for (int i = 0; i < 3; i++)
        {
            await RealTime.UntilAsync(async () => await worker.Queue.ReceiveAsync(TimeSpan.FromMilliseconds(1)) is not null, "the message comes again");
        }

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        (await worker.Queue.DeadLettersAsync()).Should().ContainSingle().Which.Reason.Should().Be("No delivery of it came to an end.");
        worker.Provider.Calls.Should().Be(0);
    }

    [Fact]
    public async Task A_message_that_has_waited_too_long_is_a_dead_letter_although_nothing_counts_against_it()
    {
        await using var worker = new RunningWorker(_folder.Path, "--Worker:Retention=00:00:02");
        await worker.PublishAsync(RunningWorker.Reminders(5));
        worker.Provider.Fault = Fault.Failing;

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        (await worker.Queue.DeadLettersAsync()).Should().HaveCount(5).And.OnlyContain(letter => letter.Reason == "It is older than 00:00:02.");
        (await worker.Provider.SentAsync()).Should().BeEmpty();
    }

    [Fact]
    public async Task An_id_that_is_used_for_another_message_is_not_answered_with_the_first_one()
    {
        await using var worker = new RunningWorker(_folder.Path, "--Worker:RedeliveryDelay=00:00:00.05", "--Worker:Consumers=1");
        Reminder other = new("+1", "Another text");
        await worker.PublishAsync(RunningWorker.Reminders(1));
        await worker.Queue.PublishAsync([("message +1", JsonSerializer.SerializeToUtf8Bytes(other, WorkerJson.Default.Reminder))]);

        await worker.StartAsync();
        await worker.UntilEmptyAsync();

        (await worker.Queue.DeadLettersAsync()).Should().ContainSingle().Which.Id.Should().Be("message +1");
        (await worker.Provider.SentAsync()).Should().Equal(RunningWorker.Reminders(1));
    }

    public void Dispose() => _folder.Dispose();
}
