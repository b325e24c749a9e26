//! Hostile input: the numbered list of the reliability notes (section 6), row by row.
//!
//! Each row has a test that sends it, here or where it is at home, or a reason why it cannot be sent
//! yet.

mod answers;
mod h2;
mod h2_answers;
mod headers;
mod names;
mod queries;
mod smuggling;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::support::sources::assert_are_tests;

/// Where rows are.
enum Where {
    /// In these tests.
    Tested(&'static [&'static str]),
    /// Not yet: why.
    NotYet(&'static str),
}

use Where::{NotYet, Tested};

const NAMES: &str = "a_path_that_names_nothing_is_refused_and_goes_no_further";
const ODD_NAMES: &str = "an_odd_name_that_is_a_name_is_served";
const RANGES: &[&str] = &[
    "a_range_of_a_stored_blob_is_exact",
    "a_range_of_a_missing_blob_is_exact_too",
    "every_kind_of_range_gets_its_answer",
];
const QUERIES: &[&str] = &[
    "no_argument_of_a_query_changes_more_than_it_may",
    "no_argument_of_a_query_goes_upstream_with_a_manifest",
];
const HEADERS: &str = "no_header_is_an_error_of_ours_or_goes_upstream";
const DOUBTFUL: &str = "a_doubtful_end_is_the_end_of_the_connection";
const BODIES: &str = "whatever_a_body_is_no_client_has_it_wrong_and_whole";
const HEADS: &str = "whatever_a_head_is_it_is_a_fault_or_of_no_consequence";
const UPLOADS: &str = "what_makes_no_sense_is_refused_here";
const MANIFESTS: &[&str] =
    &["hostile_manifests_are_opaque_bytes", "what_is_no_manifest_is_refused"];
const CHALLENGES: &str = "a_challenge_is_read_in_bounds_and_leads_nowhere_else";

/// Every row of 6.1 to 6.10.
const ROWS: &[(RangeInclusive<u16>, Where)] = &[
    // 6.1 Names and paths.
    (1..=10, Tested(&[NAMES])),
    (11..=11, Tested(&[NAMES, ODD_NAMES])),
    (12..=16, Tested(&[NAMES])),
    (17..=17, Tested(&[NAMES, ODD_NAMES])),
    (18..=18, Tested(&["a_request_line_without_end_is_cut_off"])),
    (19..=26, Tested(&[NAMES])),
    (27..=29, Tested(&[ODD_NAMES])),
    (30..=30, Tested(&[NAMES])),
    (31..=31, Tested(&[NAMES, "the_ping_is_answered_without_the_upstream"])),
    (32..=34, Tested(&[NAMES])),
    (35..=37, Tested(&["another_authority_leads_nowhere_else"])),
    (38..=38, Tested(&[NAMES, "a_fragment_is_not_part_of_a_name"])),
    (39..=40, Tested(&["a_registry_that_is_not_configured_does_not_exist"])),
    // 6.2 Tags, digests, references.
    (41..=41, Tested(&[ODD_NAMES])),
    (42..=58, Tested(&[NAMES])),
    (59..=59, Tested(&["a_tag_may_mean_a_sha512_digest", "the_two_names_of_one_content_are_two"])),
    (60..=64, Tested(&[NAMES])),
    (65..=66, Tested(&[ODD_NAMES])),
    (67..=67, Tested(&[NAMES])),
    (68..=68, Tested(&["the_empty_blob_is_a_blob"])),
    (69..=69, Tested(&["a_manifests_digest_is_no_blob_unless_the_upstream_says_so"])),
    (70..=70, Tested(&["a_cached_blob_is_denied_where_the_upstream_denies_it"])),
    // 6.3 Ranges and conditions.
    (71..=82, Tested(RANGES)),
    (
        83..=85,
        Tested(&[
            "a_range_in_an_odd_request_gives_right_bytes_or_none",
            "too_many_ranges_are_refused",
        ]),
    ),
    (86..=86, Tested(RANGES)),
    (87..=88, Tested(&["a_range_in_an_odd_request_gives_right_bytes_or_none"])),
    (89..=89, Tested(&["if_range_gives_a_part_of_the_same_and_the_whole_of_another"])),
    (90..=91, Tested(&["if_none_match_saves_the_body"])),
    (92..=92, Tested(&[HEADERS])),
    (93..=93, Tested(&["a_range_on_head_is_ignored"])),
    (
        94..=94,
        Tested(&[
            "a_range_just_ahead_of_the_fill_waits_for_it",
            "a_range_far_ahead_of_the_fill_does_not_wait_for_it",
        ]),
    ),
    (95..=95, Tested(&["a_range_on_a_manifest_is_ignored", HEADERS])),
    // 6.4 Query parameters.
    (
        96..=102,
        Tested(&[
            "a_count_is_checked_before_anybody_is_asked",
            "a_count_is_digits_and_stands_once",
        ]),
    ),
    (103..=104, Tested(&["what_is_not_known_in_a_query_is_ignored"])),
    (105..=105, Tested(&["what_is_in_a_link_stays_in_it"])),
    (106..=106, Tested(QUERIES)),
    (107..=116, Tested(&["an_unknown_namespace_is_not_found_and_nobody_is_asked", QUERIES[0]])),
    (117..=117, Tested(&["a_namespace_given_twice_is_refused", QUERIES[0]])),
    (118..=118, Tested(QUERIES)),
    (119..=126, Tested(&["no_argument_of_an_upload_does_more_than_it_may"])),
    (127..=127, Tested(&["each_filter_is_an_index_of_its_own", QUERIES[0]])),
    (128..=128, Tested(QUERIES)),
    (129..=129, Tested(&["a_manifest_gets_64_tags_at_once_and_no_more"])),
    // 6.5 Request headers.
    (130..=139, Tested(&[HEADERS])),
    (140..=140, Tested(&["a_request_without_one_plain_host_is_refused_once"])),
    // In front of a mirror that never asks they are served, where users log in they are 401.
    (
        141..=144,
        Tested(&[
            HEADERS,
            "a_clients_credential_goes_nowhere",
            "an_ambiguous_or_malformed_header_is_refused",
        ]),
    ),
    (145..=149, Tested(&[HEADERS])),
    (150..=150, Tested(&[HEADERS, "trailers_say_nothing"])),
    (151..=151, Tested(&[HEADERS, "nothing_that_clients_say_is_raw_in_the_log"])),
    (152..=152, Tested(&["a_request_with_our_own_id_or_a_long_chain_is_not_taken"])),
    (153..=154, Tested(&[HEADERS])),
    // 6.6 Framing.
    (155..=156, Tested(&["a_length_beside_chunks_hides_nothing", DOUBTFUL])),
    (157..=157, Tested(&["lengths_that_agree_are_one"])),
    (158..=160, Tested(&["a_length_that_is_stated_badly_ends_the_connection", DOUBTFUL])),
    (161..=161, Tested(&["no_spelling_of_a_coding_hides_a_request"])),
    (162..=164, Tested(&["a_broken_chunk_ends_the_connection", DOUBTFUL])),
    (165..=165, Tested(&["trailers_say_nothing"])),
    (166..=167, Tested(&["a_request_in_the_body_of_another_is_a_body"])),
    (168..=168, Tested(&["http_1_0_is_answered_once", DOUBTFUL])),
    (169..=169, Tested(&["lengths_that_agree_are_one"])),
    (170..=170, Tested(&["what_is_not_http_ends_the_connection", DOUBTFUL])),
    (171..=171, Tested(&["a_request_line_without_end_is_cut_off"])),
    (172..=172, Tested(&["what_is_no_tls_is_hung_up_on", "what_is_not_http_ends_the_connection"])),
    (173..=173, Tested(&["a_request_by_hand_is_answered"])),
    (174..=174, Tested(&["a_malformed_request_is_reset_and_the_next_is_not"])),
    (175..=175, Tested(&["rapid_resets_end_the_connection"])),
    (176..=176, Tested(&["resets_that_we_are_made_to_send_end_the_connection"])),
    (177..=177, Tested(&["continuations_without_end_end_the_connection"])),
    (178..=178, Tested(&["empty_data_without_end_ends_the_stream_or_the_connection"])),
    (179..=179, Tested(&["answers_to_pings_and_settings_do_not_pile_up"])),
    (180..=180, Tested(&["a_bomb_of_headers_is_not_unpacked"])),
    (
        181..=181,
        Tested(&[
            "streams_without_a_window_hold_up_nobody",
            "a_peer_that_takes_nothing_is_cut_after_the_limit",
        ]),
    ),
    (182..=182, Tested(&["clients_that_die_in_the_middle_leave_nothing_behind"])),
    // Renegotiation does not exist in rustls.
    (
        183..=183,
        Tested(&[
            "a_client_hello_may_come_byte_by_byte",
            "what_is_no_tls_is_hung_up_on",
            "a_handshake_that_does_not_end_is_given_up",
        ]),
    ),
    (184..=184, Tested(&["what_is_not_http_ends_the_connection"])),
    // 6.7 Uploads.
    (185..=186, Tested(&[UPLOADS])),
    (187..=187, Tested(&["a_chunk_out_of_order_is_416_and_the_upload_goes_on"])),
    (188..=188, Tested(&[UPLOADS, "a_body_without_a_length_stays_one"])),
    (189..=189, Tested(&["an_upload_that_has_ended_is_unknown"])),
    (
        190..=191,
        Tested(&[
            "an_upload_of_another_user_is_unknown",
            "a_session_is_good_where_it_was_begun_and_nowhere_else",
            "a_session_that_was_made_up_is_unknown_and_goes_no_further",
        ]),
    ),
    (192..=192, Tested(&["an_upload_that_is_only_begun_takes_no_room"])),
    (193..=193, Tested(&["a_terabyte_is_refused_at_once"])),
    (194..=194, Tested(&["a_copy_of_all_parts_becomes_the_blob"])),
    (
        195..=195,
        Tested(&[
            "what_is_deleted_is_gone_at_once_by_every_name",
            "a_deletion_that_is_refused_changes_nothing",
            "nobody_deletes_who_was_not_named_for_it",
        ]),
    ),
    // 6.8 Manifests, from clients and from upstreams.
    (196..=197, Tested(MANIFESTS)),
    (
        198..=198,
        Tested(&[
            "a_manifest_may_have_four_mebibytes",
            "a_manifest_of_4_mib_is_the_largest_that_is_taken",
        ]),
    ),
    (199..=201, Tested(MANIFESTS)),
    (202..=202, Tested(&["a_manifest_that_can_be_read_in_two_ways_is_refused"])),
    (
        203..=203,
        Tested(&[MANIFESTS[0], "a_content_type_is_kept_when_the_body_does_not_contradict"]),
    ),
    (204..=204, Tested(&["a_manifest_that_can_be_read_in_two_ways_is_refused"])),
    (205..=207, Tested(&["what_lists_itself_or_far_too_much_is_bytes_like_any_other"])),
    (208..=208, Tested(MANIFESTS)),
    (209..=209, Tested(&["what_lists_itself_or_far_too_much_is_bytes_like_any_other"])),
    (210..=211, Tested(MANIFESTS)),
    (212..=212, Tested(&["a_manifest_is_served_as_it_came"])),
    (213..=214, Tested(&["odd_members_are_as_good_as_absent", MANIFESTS[0]])),
    (215..=215, Tested(&["manifests_of_every_kind_keep_their_bytes_and_their_type"])),
    (216..=216, Tested(MANIFESTS)),
    // 6.9 Answers of upstreams.
    (217..=218, Tested(&[CHALLENGES, "a_foreign_realm_gets_no_credential_and_no_request"])),
    (219..=219, Tested(&["an_https_registry_has_no_http_token_server"])),
    (220..=220, Tested(&["a_realm_that_resolves_inwards_is_not_called"])),
    (221..=221, Tested(&["the_token_is_asked_for_our_repository_whatever_the_challenge_says"])),
    (
        222..=222,
        Tested(&[CHALLENGES, "bearer_is_found_wherever_it_stands_and_however_it_is_written"]),
    ),
    (223..=223, Tested(&["an_endless_401_ends"])),
    (
        224..=225,
        Tested(&[
            "a_token_server_that_is_out_of_order_is_an_outage",
            "what_is_no_token_is_refused",
        ]),
    ),
    (226..=227, Tested(&["a_life_is_kept_between_a_minute_and_an_hour"])),
    (228..=228, Tested(&["a_token_is_read_from_either_member_and_is_sensitive"])),
    (
        229..=229,
        Tested(&[
            "a_redirect_to_nowhere_is_an_error",
            "redirects_in_a_circle_end",
            "https_is_never_followed_to_http",
            "a_location_that_is_no_url_leads_nowhere",
        ]),
    ),
    (230..=230, Tested(&["an_upload_is_not_led_inwards", "a_redirect_of_a_body_is_not_followed"])),
    (231..=231, Tested(&["no_secret_is_in_any_message"])),
    (232..=234, Tested(&["a_link_that_leads_nowhere_is_a_fault", "what_is_in_a_link_stays_in_it"])),
    (235..=242, Tested(&[BODIES])),
    (
        243..=243,
        Tested(&[
            "a_resumption_at_the_wrong_offset_is_never_believed",
            "a_total_that_changes_between_answers_is_not_believed",
            "only_200_and_the_part_asked_for_are_answers",
        ]),
    ),
    (244..=244, Tested(&[BODIES, "wrong_bytes_with_a_length_reach_nobody_whole"])),
    (245..=246, Tested(&[HEADS, "a_manifest_is_what_its_bytes_say"])),
    (247..=248, Tested(&[HEADS, "whatever_comes_a_warm_tag_is_served"])),
    (249..=249, Tested(&["a_limit_is_passed_on_within_bounds"])),
    (250..=252, Tested(&[HEADS, "a_limit_is_passed_on_within_bounds"])),
    (253..=253, Tested(&["a_connection_with_bytes_left_over_is_not_used_again"])),
    (254..=254, Tested(&["what_does_not_speak_tls_is_unreachable"])),
    (255..=255, Tested(&["no_answer_over_http2_is_worse_than_none"])),
    (
        256..=256,
        Tested(&[
            "a_certificate_that_is_not_trusted_is_refused_and_plain_http_not_tried",
            "a_certificate_for_another_name_is_refused",
            "a_certificate_that_is_no_longer_valid_is_refused",
        ]),
    ),
    // 6.10 Files.
    (
        257..=257,
        Tested(&["without_a_file_the_well_known_registries_exist", "the_example_is_the_defaults"]),
    ),
    (258..=258, Tested(&["unknown_keys_are_refused_with_the_nearest_known_one"])),
    (259..=259, Tested(&["types_are_checked_and_values_not_shown"])),
    (260..=260, Tested(&["amounts_and_addresses_are_checked", "sizes_have_a_unit_and_fit"])),
    (261..=261, Tested(&["what_is_not_toml_is_refused_where_it_stops"])),
    (262..=262, Tested(&["large_files_are_bounded", "what_is_not_toml_is_refused_where_it_stops"])),
    (
        263..=263,
        Tested(&[
            "upstreams_are_checked",
            "each_way_to_be_no_origin_has_its_message_and_none_shows_the_secret",
        ]),
    ),
    (264..=264, Tested(&["one_name_means_one_registry", "upstreams_are_checked"])),
    (
        265..=265,
        Tested(&[
            "amounts_and_addresses_are_checked",
            "a_second_app_in_the_same_directory_does_not_start",
        ]),
    ),
    (
        266..=266,
        Tested(&[
            "what_is_not_toml_is_refused_where_it_stops",
            "bytes_that_windows_editors_leave_behind_are_no_fault",
        ]),
    ),
    (
        267..=267,
        Tested(&[
            "a_bad_pair_is_named_for_what_is_wrong_with_it",
            "a_pair_that_does_not_fit_leaves_the_old_one_in_service",
        ]),
    ),
    (268..=268, Tested(&["durations_have_a_unit_and_fit", "amounts_and_addresses_are_checked"])),
    (
        269..=269,
        Tested(&[
            "what_is_no_file_is_refused_without_waiting",
            "a_bad_configuration_leaves_the_old_one_in_service",
        ]),
    ),
    (270..=270, Tested(&["a_file_cut_off_anywhere_is_parsed_or_refused"])),
    (
        271..=282,
        Tested(&[
            "each_bad_line_is_reported_with_its_number_and_reason",
            "a_hash_that_is_cut_or_not_ascii_is_refused_without_a_panic",
            "a_hash_that_takes_too_long_to_verify_is_refused",
            "a_password_longer_than_bcrypt_takes_is_wrong",
            "users_are_read_again_and_a_bad_file_changes_nothing",
        ]),
    ),
    (283..=289, NotYet("credentials are not read from a docker config.json yet")),
];

/// A list with holes would be a list of what was easy.
#[test]
fn every_row_is_tested_or_has_its_reason() {
    let mut rows = BTreeSet::new();
    for (range, place) in ROWS {
        for row in range.clone() {
            assert!(rows.insert(row), "row {row} stands twice");
        }
        match place {
            Tested(tests) => assert_are_tests(tests.iter().copied()),
            NotYet(reason) => assert!(!reason.is_empty()),
        }
    }
    let wanted: BTreeSet<u16> = (1..=289).collect();
    assert_eq!(rows, wanted);
}
